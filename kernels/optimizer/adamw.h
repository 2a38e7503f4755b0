// AdamW with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, decay multiplied by the learning rate as in PyTorch):
//
//   g = clip_factor * gradient;  w -= lr * weight_decay * w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
//   w -= lr * (m / bias_correction1) / (sqrt(v / bias_correction2) + eps)
#ifndef LYCIA_KERNELS_OPTIMIZER_ADAMW_H_
#define LYCIA_KERNELS_OPTIMIZER_ADAMW_H_

#include <span>

#include "kernels/dispatch.h"
#include "kernels/optimizer/step_scalars.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// One contiguous segment of n elements; weight, gradient, m and v of one dtype, f32 or f64. Element-wise: any cut of a segment gives the
// same bits. Memory is passed over once. A model in bf16 or f16 keeps f32 weights here and gets its own rounded from them.
struct AdamWArgs {
  Tensor weight;         // [n]
  Tensor model_weight;   // [n] bf16 (on CUDA also f16), = weight, rounded to the nearest; absent when data is null
  ConstTensor gradient;  // [n]
  Tensor m, v;           // [n]
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0;
  const StepScalars* scalars = nullptr;  // device memory
};

namespace cpu {
void AdamW(Stream& stream, const AdamWArgs& args);
}  // namespace cpu
namespace cuda {
void AdamW(Stream& stream, std::span<const AdamWArgs> segments);
}  // namespace cuda

// Each segment as if alone; on CUDA dozens in one launch.
inline void AdamW(Stream& stream, std::span<const AdamWArgs> segments) {
  const auto on_cpu = [&] {
    for (const AdamWArgs& segment : segments) cpu::AdamW(stream, segment);
  };
  Dispatch(stream, on_cpu, [&] { cuda::AdamW(stream, segments); });
}
inline void AdamW(Stream& stream, const AdamWArgs& args) { AdamW(stream, std::span<const AdamWArgs>(&args, 1)); }

}  // namespace lycia

#endif  // LYCIA_KERNELS_OPTIMIZER_ADAMW_H_
