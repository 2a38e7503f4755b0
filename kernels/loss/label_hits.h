// How often a label is what the model holds likeliest: accuracy, in evaluations.
#ifndef LYCIA_KERNELS_LOSS_LABEL_HITS_H_
#define LYCIA_KERNELS_LOSS_LABEL_HITS_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// B samples, T labels each, V classes or vocabulary. Of equal largest logits any is right; a NaN never is.
struct LabelHitsArgs {
  ConstTensor logits;             // [B, T, V] bf16, f32 or f64
  ConstTensor labels;             // [B, T] i32 in [-1, V); -1 is none
  double* sample_hits = nullptr;  // [B], = labels of a sample whose logit is as large as any of its row
};

namespace cpu {
void LabelHits(Stream& stream, const LabelHitsArgs& args);
}  // namespace cpu
namespace cuda {
void LabelHits(Stream& stream, const LabelHitsArgs& args);
}  // namespace cuda

inline void LabelHits(Stream& stream, const LabelHitsArgs& args) {
  Dispatch(
      stream, [&] { cpu::LabelHits(stream, args); }, [&] { cuda::LabelHits(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_LOSS_LABEL_HITS_H_
