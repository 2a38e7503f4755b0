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
// norm, and what weights that differ already make of it; every weight that the record has, after every step: what Adam can make of its
// gradients' differences, and 1e-12 of lr * steps. Internal, with the worst element, otherwise.
Status CompareWithTruth(const Record& record, const Record& truth);

// The f32 contract, on the gradients of the first step: each tensor's error (2-norm) against the f64 truth is at most 1e-5 of its layer's
// gradient norm and at most 4 times the serial f32 run's.
Status CompareF32WithTruth(const Record& record, const Record& serial, const Record& truth);

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_TRUTH_RUN_H_
