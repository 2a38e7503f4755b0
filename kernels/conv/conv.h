// Convolution of images (channels last), its gradients, and what usually follows it. No lowering buffer: the products over (filter row,
// filter column, channel) read the image where it lies; beyond the tiles of a matrix product (the stream's workspaces) nothing is used.
#ifndef LYCIA_KERNELS_CONV_CONV_H_
#define LYCIA_KERNELS_CONV_CONV_H_

#include "kernels/conv/conv_shape.h"
#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Types: in, weight, dout, din of one type, f32, bf16 or f64; f64 proves layouts and is not fast. Sums are f32 (f64). Beside bf16, out may
// be f32 too, residual and vectors of K may be bf16 or f32, and gradients of weights are f32. bf16 is rounded once, when it is written.
// Shapes pass CheckConvShape. A pixel outside an image counts as a zero. A NaN or an infinity in a weight (for dweight: in dout) may or may
// not reach a result through pixels outside the image: some ways of computing multiply with those zeros, others skip them.

// The weight in the order in which forward and input gradient read it, each its own; packed once a step, it serves all micro-batches.
// The order of the bytes belongs to this processor's kernel: never stored, never sent.
enum class ConvUse : std::uint8_t { kForward, kBackwardInput };
struct PackedConvWeight {
  void* data = nullptr;  // 64-byte aligned, PackedConvBytes; null: absent
  DType dtype = DType::kF32;
  ConvUse use = ConvUse::kForward;
  ConvShape shape;  // that it was packed for; the number of images may differ
};
// The shape must pass CheckConvShape.
std::int64_t PackedConvBytes(DType dtype, ConvUse use, const ConvShape& shape);
// The same on the device: none on CUDA.
inline std::int64_t PackedConvBytes(DeviceKind device, DType dtype, ConvUse use, const ConvShape& shape) {
  return device == DeviceKind::kCuda ? 0 : PackedConvBytes(dtype, use, shape);
}

struct PackConvWeightArgs {
  ConstTensor weight;  // [K, R, S, C / groups]
  PackedConvWeight to;
};

// s = in * weight; s *= scale; s += bias; s += residual; s = max(s, 0) if relu; out = s. A batch norm in evaluation is a scale and a bias
// (BatchNormFold). A NaN stays one in the maximum.
struct ConvForwardArgs {
  ConvShape shape;
  ConstTensor in;           // [N, H, W, C]
  ConstTensor weight;       // [K, R, S, C / groups]; not needed when packed is given
  PackedConvWeight packed;  // for kForward
  Tensor out;               // [N, P, Q, K]; overlaps no other operand
  ConstTensor scale;        // [K]; absent when data is null, and so below
  ConstTensor bias;         // [K]
  ConstTensor residual;     // [N, P, Q, K]
  bool relu = false;
};

struct ConvBackwardInputArgs {
  ConvShape shape;
  ConstTensor dout;         // [N, P, Q, K]
  ConstTensor weight;       // [K, R, S, C / groups]; not needed when packed is given
  PackedConvWeight packed;  // for kBackwardInput
  Tensor din;               // [N, H, W, C]
  bool accumulate = false;  // din += instead of din =
};

struct ConvBackwardWeightArgs {
  ConvShape shape;
  ConstTensor in;    // [N, H, W, C]
  ConstTensor dout;  // [N, P, Q, K]
  Tensor dweight;    // [K, R, S, C / groups], +=
  Tensor dbias;      // [K], += sums of dout; absent when data is null
};

// Same bits for the same values on one machine, for any number of threads, with weights packed or not, and for out and din with images
// together or one at a time.
namespace cpu {
void PackConvWeight(Stream& stream, const PackConvWeightArgs& args);
void ConvForward(Stream& stream, const ConvForwardArgs& args);
void ConvBackwardInput(Stream& stream, const ConvBackwardInputArgs& args);
void ConvBackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args);
}  // namespace cpu

// The weight is always read and packed is not: PackConvWeight does nothing. Same bits for the same values on one chip. f32 is summed in f32
// (no TF32), bf16 in f32.
namespace cuda {
void PackConvWeight(Stream& stream, const PackConvWeightArgs& args);
void ConvForward(Stream& stream, const ConvForwardArgs& args);
void ConvBackwardInput(Stream& stream, const ConvBackwardInputArgs& args);
void ConvBackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args);
}  // namespace cuda

inline void PackConvWeight(Stream& stream, const PackConvWeightArgs& args) {
  Dispatch(
      stream, [&] { cpu::PackConvWeight(stream, args); }, [&] { cuda::PackConvWeight(stream, args); });
}
inline void ConvForward(Stream& stream, const ConvForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::ConvForward(stream, args); }, [&] { cuda::ConvForward(stream, args); });
}
inline void ConvBackwardInput(Stream& stream, const ConvBackwardInputArgs& args) {
  Dispatch(
      stream, [&] { cpu::ConvBackwardInput(stream, args); }, [&] { cuda::ConvBackwardInput(stream, args); });
}
inline void ConvBackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args) {
  Dispatch(
      stream, [&] { cpu::ConvBackwardWeight(stream, args); }, [&] { cuda::ConvBackwardWeight(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_CONV_CONV_H_
