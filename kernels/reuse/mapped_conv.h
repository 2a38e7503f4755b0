// Convolutions of the distinct patches only: their products, and the gradient of the weight from sums over them.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_CONV_H_
#define LYCIA_KERNELS_REUSE_MAPPED_CONV_H_

#include "kernels/conv/conv.h"
#include "kernels/dispatch.h"
#include "kernels/reuse/index_map.h"

namespace lycia {

// Types, packed weights and the order of what follows a sum are conv.h's; one group. U = *map.size.

// c[j] = the output of ConvForward at position representatives[j]: on the CPU the same bits. Patches are read from the image.
struct MappedConvForwardArgs {
  IndexMap map;  // a partition of N P Q patches
  ConvShape shape;
  ConstTensor in;           // [N, H, W, C]
  ConstTensor weight;       // [K, R, S, C]; not needed when packed is given
  PackedConvWeight packed;  // for kForward
  Matrix c;                 // [U, K] of in's type, or f32 beside bf16; rows from U on are left alone
  ConstTensor scale, bias;  // [K]; absent when data is null
  bool relu = false;
};

// dweight += sum over clusters of sums[j] times the patch at representatives[j]. With sums over equal patches (SegmentSum of dout) this is
// ConvBackwardWeight but for the order of the sum. The gradient of the input has no shorter way: neighbouring patches share pixels.
struct MappedConvBackwardWeightArgs {
  IndexMap map;  // a partition of N P Q patches
  ConvShape shape;
  ConstTensor in;    // [N, H, W, C]
  ConstMatrix sums;  // [U, K] of in's type
  Tensor dweight;    // [K, R, S, C], += ; f32 for bf16
};

namespace cpu {
void MappedConvForward(Stream& stream, const MappedConvForwardArgs& args);
void MappedConvBackwardWeight(Stream& stream, const MappedConvBackwardWeightArgs& args);
}  // namespace cpu
// The weight is always read and packed is not. A row of c has the same bits whatever U is, but not those of ConvForward where that runs on
// tensor cores; sums of a gradient have an order that N P Q and U decide.
namespace cuda {
void MappedConvForward(Stream& stream, const MappedConvForwardArgs& args);
void MappedConvBackwardWeight(Stream& stream, const MappedConvBackwardWeightArgs& args);
}  // namespace cuda

inline void MappedConvForward(Stream& stream, const MappedConvForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::MappedConvForward(stream, args); }, [&] { cuda::MappedConvForward(stream, args); });
}
inline void MappedConvBackwardWeight(Stream& stream, const MappedConvBackwardWeightArgs& args) {
  Dispatch(
      stream, [&] { cpu::MappedConvBackwardWeight(stream, args); }, [&] { cuda::MappedConvBackwardWeight(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_MAPPED_CONV_H_
