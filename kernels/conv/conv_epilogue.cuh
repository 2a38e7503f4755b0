// What follows the sums of a forward convolution on CUDA: scale, bias, residual, maximum with 0, rounding (conv.h). Device code.
#ifndef LYCIA_KERNELS_CONV_CONV_EPILOGUE_CUH_
#define LYCIA_KERNELS_CONV_CONV_EPILOGUE_CUH_

#include <cstdint>

#include "kernels/conv/conv.h"
#include "kernels/cuda/pack.cuh"

namespace lycia::cuda {

// Of type T, or of what T is summed in.
template <typename T>
struct ConvOperand {
  const void* data;  // null: absent
  bool summed_type;
  __device__ __forceinline__ Arithmetic<T> At(std::int64_t i) const {
    if (summed_type) return static_cast<const Arithmetic<T>*>(data)[i];
    return Widen(static_cast<const T*>(data)[i]);
  }
};

template <typename T>
struct ConvEpilogue {
  using A = Arithmetic<T>;
  std::int64_t K;
  ConvOperand<T> scale, bias, residual;
  bool relu;
  void* out;  // [N, P, Q, K]
  bool out_summed_type;

  // A NaN stays one.
  __device__ __forceinline__ A Apply(std::int64_t m, std::int64_t k, A s) const {
    if (scale.data != nullptr) s *= scale.At(k);
    if (bias.data != nullptr) s += bias.At(k);
    if (residual.data != nullptr) s += residual.At(m * K + k);
    return relu && s < A(0) ? A(0) : s;
  }
  // Output pixel m, filter k.
  __device__ __forceinline__ void Store(std::int64_t m, std::int64_t k, A s) const {
    s = Apply(m, k, s);
    if (out_summed_type)
      static_cast<A*>(out)[m * K + k] = s;
    else
      static_cast<T*>(out)[m * K + k] = Round<T>(s);
  }
};

template <typename T>
ConvEpilogue<T> EpilogueOf(const ConvForwardArgs& args) {
  const DType summed = ArithmeticDType(args.in.dtype);
  const auto operand = [&](const ConstTensor& t) { return ConvOperand<T>{t.data, t.dtype == summed}; };
  return {.K = args.shape.K,
          .scale = operand(args.scale),
          .bias = operand(args.bias),
          .residual = operand(args.residual),
          .relu = args.relu,
          .out = args.out.data,
          .out_summed_type = args.out.dtype == summed};
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_EPILOGUE_CUH_
