// Bias where a product is summed over ranks before it is added, so that it cannot be the product's epilogue.
#ifndef LYCIA_KERNELS_PARTS_BIAS_H_
#define LYCIA_KERNELS_PARTS_BIAS_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

struct AddBiasArgs {
  Tensor rows;       // [R..., C], += bias in every row; bf16 (added in f32, rounded once), f32 or f64
  ConstTensor bias;  // [C], of the same type
};

namespace cpu {
void AddBias(Stream& stream, const AddBiasArgs& args);
}  // namespace cpu
namespace cuda {
void AddBias(Stream& stream, const AddBiasArgs& args);
}  // namespace cuda

inline void AddBias(Stream& stream, const AddBiasArgs& args) {
  Dispatch(
      stream, [&] { cpu::AddBias(stream, args); }, [&] { cuda::AddBias(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_PARTS_BIAS_H_
