// Softmax cross-entropy of next tokens: loss = log sum exp(logits) - logits[label], and its gradient softmax(logits) - onehot(label).
#ifndef LYCIA_KERNELS_LOSS_CROSS_ENTROPY_H_
#define LYCIA_KERNELS_LOSS_CROSS_ENTROPY_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Logits of bf16, f32 or f64; softmax and sums of bf16 in f32. Probabilities are never stored: dlogits is written once, rounded once.
//
// B samples, T tokens, V vocabulary. A label outside [-1, V) fails the stream with InvalidArgument, naming sample and position (on CUDA
// when it is next waited for, naming the place).
struct CrossEntropyArgs {
  ConstTensor logits;               // [B, T, V]
  ConstTensor labels;               // [B, T] i32; -1 is not a loss token: no loss, zero gradient
  double* sample_losses = nullptr;  // [B], = sum of the token losses of a sample, in f64 and in token order; absent when null
  Tensor dlogits;    // [B, T, V], = scale * gradient; may be `logits`; bf16 also for logits of f32; absent (evaluation) when null
  double scale = 1;  // 1 / loss tokens of the global batch
};

namespace cpu {
void CrossEntropy(Stream& stream, const CrossEntropyArgs& args);
}  // namespace cpu
namespace cuda {
void CrossEntropy(Stream& stream, const CrossEntropyArgs& args);
}  // namespace cuda

inline void CrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  Dispatch(
      stream, [&] { cpu::CrossEntropy(stream, args); }, [&] { cuda::CrossEntropy(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_LOSS_CROSS_ENTROPY_H_
