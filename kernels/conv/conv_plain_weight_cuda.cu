// Gradient of a convolution's weight, the plain path: a block computes 64 filters x 64 of (r, s, c) of a group over a part of the output
// pixels (ChooseConvSplits); sums of parts stand in the stream's workspace and are added in order, no atomics. Tiles and limit as in
// conv_plain_forward_cuda.cu; the sums of parts are written and read once.
#include <cuda_runtime.h>

#include "kernels/conv/conv_plain_cuda.h"
#include "kernels/conv/conv_plain_tile.cuh"
#include "kernels/conv/conv_splits.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <typename T, bool kWide>
struct WeightProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = false, kRightAlong = false;
  PlainPatches<T> patches;  // of in, of group 0
  const T* dout;
  Number* to;  // [splits, K, R, S, C / groups]; one split: +=
  int positions, group_K, splits, depth_each;
  std::int64_t K;

  // The block's.
  int group = 0, split = 0, filter = 0, column = 0;

  __device__ bool Begin(int part) {
    group = part / splits, split = part - group * splits;
    patches.data += std::int64_t{group} * patches.channels;
    return true;
  }
  __device__ int rows() const { return group_K; }
  __device__ int columns() const { return patches.depth(); }
  __device__ int begin() const { return split * depth_each; }
  __device__ int end() const { return positions - begin() < depth_each ? positions : begin() + depth_each; }
  __device__ void StartLeft(int k) { filter = k; }
  __device__ void StartRight(int d) { column = d; }
  __device__ void Left(int m, Number (&values)[kFour]) const {
    if (m < end() && filter < group_K) LoadFour<kWide>(dout + m * K + group * group_K + filter, group_K - filter, values);
  }
  __device__ void Right(int m, Number (&values)[kFour]) const {
    if (m < end() && column < columns()) patches.template LoadAlong<kWide>(patches.At(m), column, values);
  }
  __device__ void Store(int k, int d, Number sum) const {
    const std::int64_t i = (std::int64_t{group} * group_K + k) * columns() + d;
    if (splits == 1)
      to[i] += sum;
    else
      to[split * K * columns() + i] = sum;
  }
};

template <typename T, bool kWide>
void Launch(Stream& stream, const ConvBackwardWeightArgs& args) {
  using A = Arithmetic<T>;
  const ConvShape& s = args.shape;
  const StreamTarget target = TargetOf(stream);
  const ConvSplits splits = ChooseConvSplits(s, sizeof(A), kKernelWorkspaceBytes);
  const auto number = [](std::int64_t n) { return static_cast<int>(n); };
  A* const partial = static_cast<A*>(target.kernel_workspace);
  const WeightProduct<T, kWide> product{.patches = PlainPatchesOf<T>(s, args.in.data),
                                        .dout = args.dout.as<T>(),
                                        .to = splits.splits == 1 ? args.dweight.as<A>() : partial,
                                        .positions = number(s.N * s.P() * s.Q()),
                                        .group_K = number(s.group_K()),
                                        .splits = splits.splits,
                                        .depth_each = number(splits.depth_each),
                                        .K = s.K};
  const std::int64_t columns = s.R() * s.S() * s.group_C();
  const dim3 grid(static_cast<unsigned>(ConvTiles(s.group_K())), static_cast<unsigned>(ConvTiles(columns)),
                  static_cast<unsigned>(s.groups * splits.splits));
  const cudaLaunchConfig_t config = LaunchConfig(target, grid, dim3(kConvThreads));
  const cudaError_t error = cudaLaunchKernelEx(&config, ConvTileKernel<WeightProduct<T, kWide>>, product);
  if (error != cudaSuccess) return stream.Fail(ToStatus(error, "ConvBackwardWeight", __FILE__, __LINE__, s.ToString()));
  if (splits.splits == 1) return;
  LaunchAddSplits(stream, partial, args.dweight.as<A>(), s.K * columns, splits.splits);
}

}  // namespace

void ConvBackwardWeightPlain(Stream& stream, const ConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const bool wide = AllowsFour(args.in.as<T>(), s.group_C(), s.C) && AllowsFour(args.dout.as<T>(), s.group_K(), s.K);
    return wide ? Launch<T, true>(stream, args) : Launch<T, false>(stream, args);
  });
}

}  // namespace lycia::cuda
