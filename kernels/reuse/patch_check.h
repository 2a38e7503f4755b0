// What kernels over the patches of an image check of their operands before they begin, on any device.
#ifndef LYCIA_KERNELS_REUSE_PATCH_CHECK_H_
#define LYCIA_KERNELS_REUSE_PATCH_CHECK_H_

#include <cstdint>

#include "kernels/reuse/mapped_conv.h"

namespace lycia {

// True where the map is a partition of the N P Q patches of images in [N, H, W, C] of bf16, f32 or f64 (on CUDA f16), of one group. False,
// with the reason on the stream, for another map, or groups; what cannot be is a broken promise (CHECK).
bool ArePatches(Stream& stream, const char* kernel, const IndexMap& map, const ConvShape& shape, const ConstTensor& in);

// Types and sizes, but for the number of rows of c and sums, of which U are enough. CHECK-fail.
void CheckMappedConvForward(const MappedConvForwardArgs& args);
void CheckMappedConvBackwardWeight(const MappedConvBackwardWeightArgs& args);

// A pixel of zeros, which stands at the beginning of PatchPlaneBytes (build_index_map.h), with what lies behind it aligned to 64 bytes.
std::int64_t PatchZerosBytes(DType dtype, const ConvShape& shape);

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_PATCH_CHECK_H_
