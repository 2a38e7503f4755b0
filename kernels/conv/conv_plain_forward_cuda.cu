// Forward convolution, the plain path: a block computes 64 output pixels x 64 filters of a group (conv_plain.h), reads patches where they
// lie, and sums in f32 (f64) registers, 16 a thread; two tiles of 16 x 68 numbers in shared memory (8.5 KiB; f64 17 KiB). The image is read
// R S times per 64 filters, mostly from L2. Bound by f32 arithmetic: 16 multiply-adds an 8 numbers read from shared memory, below the
// tensor cores by an order of magnitude; share of it: not yet run.
#include <cuda_runtime.h>

#include "kernels/conv/conv_epilogue.cuh"
#include "kernels/conv/conv_plain_cuda.h"
#include "kernels/conv/conv_plain_tile.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <typename T, bool kWide>
struct ForwardProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = true, kRightAlong = true;
  PlainPatches<T> patches;  // of group 0
  const T* weight;
  int positions, group_K;
  ConvEpilogue<T> epilogue;

  // The block's.
  int first_filter = 0, lane_in_group = 0;
  bool has_position = false;
  typename PlainPatches<T>::Position at{};

  __device__ bool Begin(int group) {
    patches.data += std::int64_t{group} * patches.channels;
    first_filter = group * group_K;
    return true;
  }
  __device__ int rows() const { return positions; }
  __device__ int columns() const { return group_K; }
  __device__ int begin() const { return 0; }
  __device__ int end() const { return patches.depth(); }
  __device__ void StartLeft(int m) {
    has_position = m < positions;
    if (has_position) at = patches.At(m);
  }
  __device__ void StartRight(int k) { lane_in_group = k; }
  __device__ void Left(int d, Number (&to)[kFour]) const {
    if (has_position) patches.template LoadAlong<kWide>(at, d, to);
  }
  __device__ void Right(int d, Number (&to)[kFour]) const {
    const int left = end() - d;
    if (lane_in_group < group_K && left > 0) LoadFour<kWide>(weight + std::int64_t{first_filter + lane_in_group} * end() + d, left, to);
  }
  __device__ void Store(int m, int k, Number sum) const { epilogue.Store(m, first_filter + k, sum); }
};

template <typename T, bool kWide>
void Launch(Stream& stream, const ConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  const auto number = [](std::int64_t n) { return static_cast<int>(n); };
  const ForwardProduct<T, kWide> product{.patches = PlainPatchesOf<T>(s, args.in.data),
                                         .weight = args.weight.as<T>(),
                                         .positions = number(s.N * s.P() * s.Q()),
                                         .group_K = number(s.group_K()),
                                         .epilogue = EpilogueOf<T>(args)};
  const dim3 grid(static_cast<unsigned>(ConvTiles(product.positions)), static_cast<unsigned>(ConvTiles(s.group_K())),
                  static_cast<unsigned>(s.groups));
  const cudaLaunchConfig_t config = LaunchConfig(TargetOf(stream), grid, dim3(kConvThreads));
  const cudaError_t error = cudaLaunchKernelEx(&config, ConvTileKernel<ForwardProduct<T, kWide>>, product);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "ConvForward", __FILE__, __LINE__, s.ToString()));
}

}  // namespace

void ConvForwardPlain(Stream& stream, const ConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const bool wide = AllowsFour(args.in.as<T>(), s.group_C(), s.C) && AllowsFour(args.weight.as<T>(), s.group_C(), s.group_C());
    return wide ? Launch<T, true>(stream, args) : Launch<T, false>(stream, args);
  });
}

}  // namespace lycia::cuda
