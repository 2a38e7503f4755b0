// Means of the patches of a convolution, cluster by cluster: the rows of its products where patches are alike but not equal.
#ifndef LYCIA_KERNELS_REUSE_PATCH_MEANS_H_
#define LYCIA_KERNELS_REUSE_PATCH_MEANS_H_

#include "kernels/conv/conv_shape.h"
#include "kernels/dispatch.h"
#include "kernels/reuse/gather.h"

namespace lycia {

// ClusterMeans of patches that are read from the image. With c the means, the weight [K, (R, S, C)] and sums those of dout by cluster:
//   forward            c weightᵀ: MappedGemm over rows, b transposed; then ScatterRows
//   weight's gradient  sumsᵀ c: MappedGemm over the depth
//   input's gradient   ConvBackwardInput of every position's mean of dout: SegmentSum with mean, then ScatterRows
struct ClusterPatchMeansArgs {
  IndexMap map;                 // a partition of N P Q patches
  ConvShape shape;              // one group
  ConstTensor in;               // [N, H, W, C] bf16, f32 or f64
  Matrix to;                    // [U, R S C] of in's type
  ReuseMeter* meter = nullptr;  // as in ClusterMeans
  void* workspace = nullptr;    // 64-byte aligned, ClusterPatchMeansBytes; always needed
};
std::int64_t ClusterPatchMeansBytes(DType dtype, const ConvShape& shape);

namespace cpu {
void ClusterPatchMeans(Stream& stream, const ClusterPatchMeansArgs& args);
}  // namespace cpu
// The means of the CPU (sums over members have the order of the patches), the meter's squares in an order of their own.
namespace cuda {
void ClusterPatchMeans(Stream& stream, const ClusterPatchMeansArgs& args);
}  // namespace cuda

inline void ClusterPatchMeans(Stream& stream, const ClusterPatchMeansArgs& args) {
  Dispatch(
      stream, [&] { cpu::ClusterPatchMeans(stream, args); }, [&] { cuda::ClusterPatchMeans(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_PATCH_MEANS_H_
