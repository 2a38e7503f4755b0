// The serial truth on the model and data of layout_run.h, and what it means to agree with it.
#ifndef LYCIA_TESTS_LAYOUTS_TRUTH_RUN_H_
#define LYCIA_TESTS_LAYOUTS_TRUTH_RUN_H_

#include <string>

#include "tests/layouts/layout_run.h"
#include "tests/truth/serial_trainer.h"

namespace lycia::layouts {

truth::TrainingOptions TruthOptions(const Layout& layout);

// The truth's run over a layout's global batch, in f64 or in f32. Layouts with the same batch and model share it. Not thread-safe.
const Record& TruthOf(const Layout& layout, DType precision = DType::kF64);

// The f64 contract of docs/numerics.md. Loss, norm and evaluation: within 1e-12 of their size; gradients: 1e-12 of their layer's gradient
// norm; all of them, and what weights that differ already make of it; every weight that the record has, after every step: what Adam can
// make of its gradients' differences, and 1e-12 of lr * steps. Internal, with the worst element, otherwise.
Status CompareWithTruth(const Record& record, const Record& truth);

// The contract of f32, bf16 and f16, on the gradients of the first step: each tensor's error (2-norm) against the f64 truth is at most so
// much of its layer's gradient norm, and at most 4 times that of the serial run in the same type (of which one rounding of the layer's norm
// is luck).
struct Tolerance {
  double of_layer = 1e-5;
  double rounding = 0x1p-24;
};
inline constexpr Tolerance kF32Tolerance{};
inline constexpr Tolerance kBF16Tolerance{.of_layer = 0.05, .rounding = 0x1p-9};
inline constexpr Tolerance kF16Tolerance{.of_layer = 0.05 / 8, .rounding = 0x1p-12};  // three bits more than bf16
Status CompareInLowPrecision(const Record& record, const Record& serial, const Record& truth, const Tolerance& tolerance);

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_TRUTH_RUN_H_
