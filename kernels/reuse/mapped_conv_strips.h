// Which mapped convolutions take the tensor cores of Hopper by strips of patches, and how many patches a strip has: pure host functions,
// tested without a GPU.
//
// The tensor cores read listed rows of a matrix, but a patch is no row of one. So as many distinct patches as fit the stream's workspace
// are written there and multiplied by the mapped product, then the next; of how many strips there are the host knows the most, and those
// beyond the clusters find nothing to do. 32 MiB stay in the L2 cache of 50 MiB between the two kernels: a strip's patches are written and
// read there, and no memory of the size of all patches is needed.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_CONV_STRIPS_H_
#define LYCIA_KERNELS_REUSE_MAPPED_CONV_STRIPS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/reuse/mapped_conv.h"
#include "kernels/reuse/mapped_gemm_hopper.h"

namespace lycia::cuda {

inline constexpr std::int64_t kStripHeadBytes = 256;  // the strip's number of patches, and alignment behind it

// Patches of a strip: whole tiles of rows, and not more than there are; 0: not one tile fits.
inline std::int64_t PatchesOfStrip(const ConvShape& s, std::int64_t element_bytes, std::int64_t workspace_bytes) {
  const std::int64_t fit = (workspace_bytes - kStripHeadBytes) / (s.R() * s.S() * s.C * element_bytes);
  return std::min(fit / kMappedRows * kMappedRows, s.N * s.P() * s.Q());
}

namespace internal {

// By the product that a strip becomes.
inline const char* RejectStrips(const ConvShape& s, DType in, const void* workspace, std::int64_t workspace_bytes, MappedGemmArgs product) {
  const std::int64_t strip = PatchesOfStrip(s, SizeOf(in), workspace_bytes), depth = s.R() * s.S() * s.C;
  if (strip < 1) return "a tile of patches does not fit the workspace";
  const ConstMatrix patches{static_cast<const char*>(workspace) + kStripHeadBytes, in, strip, depth, depth};
  (product.over == MappedOver::kRows ? product.gemm.a : product.gemm.b) = patches;
  return RejectMappedHopper(product);
}

}  // namespace internal

// nullptr if the products of the strips run on the tensor cores, else the reason.
inline const char* RejectForwardStrips(const MappedConvForwardArgs& args, const void* workspace, std::int64_t workspace_bytes) {
  if (args.scale.data != nullptr) return "results are scaled";
  if (args.c.dtype != args.in.dtype) return "results are not of the type of the image";
  const std::int64_t depth = args.shape.R() * args.shape.S() * args.shape.C;
  return internal::RejectStrips(
      args.shape, args.in.dtype, workspace, workspace_bytes,
      {.map = args.map,
       .gemm = {
           .b = {args.weight.data, args.weight.dtype, args.shape.K, depth, depth}, .transpose_b = true, .c = args.c, .bias = args.bias}});
}
inline const char* RejectBackwardWeightStrips(const MappedConvBackwardWeightArgs& args, const void* workspace,
                                              std::int64_t workspace_bytes) {
  const std::int64_t depth = args.shape.R() * args.shape.S() * args.shape.C;
  return internal::RejectStrips(args.shape, args.in.dtype, workspace, workspace_bytes,
                                {.map = args.map,
                                 .over = MappedOver::kDepth,
                                 .gemm = {.a = args.sums,
                                          .transpose_a = true,
                                          .c = {args.dweight.data, args.dweight.dtype, args.shape.K, depth, depth},
                                          .accumulate = true}});
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_MAPPED_CONV_STRIPS_H_
