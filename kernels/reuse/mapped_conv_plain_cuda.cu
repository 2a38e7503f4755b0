// Mapped convolutions, the plain path: the tile of the plain convolutions (kernels/conv/conv_plain_tile.cuh) over listed positions, as many
// as a word in device memory says. Forward: a block computes 64 clusters x 64 filters; blocks of clusters beyond the word leave at once,
// and a row of c has the bits that the plain ConvForward gives it. Weight gradient: 64 filters x 64 of (r, s, c) over a part of the
// clusters; how many parts is decided by the most that there may be, each has its share of those there are, and their sums are added in
// order (conv_splits.cuh). Bound by f32 arithmetic, as the convolutions are. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/conv/conv_epilogue.cuh"
#include "kernels/conv/conv_plain_tile.cuh"
#include "kernels/conv/conv_splits.cuh"
#include "kernels/reuse/mapped_conv_cuda.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <typename T, bool kWide>
struct MappedForwardProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = true, kRightAlong = true;
  PlainPatches<T> patches;
  const T* weight;
  const std::int32_t *size, *representatives;
  int filters;
  ConvEpilogue<T> epilogue;  // rows of c take the place of pixels

  // The block's, and the thread's.
  int count = 0, filter = 0;
  bool has_position = false;
  typename PlainPatches<T>::Position at{};

  __device__ bool Begin(int) {
    count = *size;
    return true;
  }
  __device__ int rows() const { return count; }
  __device__ int columns() const { return filters; }
  __device__ int begin() const { return 0; }
  __device__ int end() const { return patches.depth(); }
  __device__ void StartLeft(int j) {
    has_position = j < count;
    if (has_position) at = patches.At(representatives[j]);
  }
  __device__ void StartRight(int k) { filter = k; }
  __device__ void Left(int d, Number (&to)[kFour]) const {
    if (has_position) patches.template LoadAlong<kWide>(at, d, to);
  }
  __device__ void Right(int d, Number (&to)[kFour]) const {
    const int left = end() - d;
    if (filter < filters && left > 0) LoadFour<kWide>(weight + std::int64_t{filter} * end() + d, left, to);
  }
  __device__ void Store(int j, int k, Number sum) const { epilogue.Store(j, k, sum); }
};

template <typename T, bool kWide>
struct MappedWeightProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = false, kRightAlong = false;
  PlainPatches<T> patches;
  const T* sums;
  std::int64_t sums_ld;
  Number* to;  // [splits, K, R, S, C]; one split: +=
  const std::int32_t *size, *representatives;
  int filters, splits;

  int first = 0, last = 0, split = 0, filter = 0, column = 0;

  __device__ bool Begin(int part) {
    const int count = *size, each = (count + splits * kConvTileDepth - 1) / (splits * kConvTileDepth) * kConvTileDepth;
    split = part;
    first = part * each < count ? part * each : count;
    last = count - first < each ? count : first + each;
    return true;
  }
  __device__ int rows() const { return filters; }
  __device__ int columns() const { return patches.depth(); }
  __device__ int begin() const { return first; }
  __device__ int end() const { return last; }
  __device__ void StartLeft(int k) { filter = k; }
  __device__ void StartRight(int d) { column = d; }
  __device__ void Left(int j, Number (&values)[kFour]) const {
    if (j < last && filter < filters) LoadFour<kWide>(sums + j * sums_ld + filter, filters - filter, values);
  }
  __device__ void Right(int j, Number (&values)[kFour]) const {
    if (j < last && column < columns()) patches.template LoadAlong<kWide>(patches.At(representatives[j]), column, values);
  }
  __device__ void Store(int k, int d, Number sum) const {
    const std::int64_t i = std::int64_t{k} * columns() + d;
    if (splits == 1)
      to[i] += sum;
    else
      to[std::int64_t{split} * filters * columns() + i] = sum;
  }
};

template <typename T>
ConvEpilogue<T> EpilogueOf(const MappedConvForwardArgs& args) {
  const DType summed = ArithmeticDType(args.in.dtype);
  const auto operand = [&](const ConstTensor& t) { return ConvOperand<T>{t.data, t.dtype == summed}; };
  return {.K = args.c.ld,
          .scale = operand(args.scale),
          .bias = operand(args.bias),
          .residual = {},
          .relu = args.relu,
          .out = args.c.data,
          .out_summed_type = args.c.dtype == summed};
}

template <typename T, bool kWide>
void Launch(Stream& stream, const MappedConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  const MappedForwardProduct<T, kWide> product{.patches = PlainPatchesOf<T>(s, args.in.data),
                                               .weight = args.weight.as<T>(),
                                               .size = args.map.size,
                                               .representatives = args.map.representatives,
                                               .filters = static_cast<int>(s.K),
                                               .epilogue = EpilogueOf<T>(args)};
  // Of c's rows there are as many as clusters at most.
  const std::int64_t rows = std::min(args.c.rows, args.map.extent);
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>(ConvTiles(rows)), static_cast<unsigned>(ConvTiles(s.K)));
  const cudaLaunchConfig_t config = LaunchConfig(TargetOf(stream), grid, dim3(kConvThreads));
  const cudaError_t error = cudaLaunchKernelEx(&config, ConvTileKernel<MappedForwardProduct<T, kWide>>, product);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "MappedConvForward", __FILE__, __LINE__, s.ToString()));
}

template <typename T, bool kWide>
void Launch(Stream& stream, const MappedConvBackwardWeightArgs& args) {
  using A = Arithmetic<T>;
  const ConvShape& s = args.shape;
  const StreamTarget target = TargetOf(stream);
  const int splits = ChooseConvSplits(s, sizeof(A), kKernelWorkspaceBytes).splits;
  A* const partial = static_cast<A*>(target.kernel_workspace);
  const MappedWeightProduct<T, kWide> product{.patches = PlainPatchesOf<T>(s, args.in.data),
                                              .sums = static_cast<const T*>(args.sums.data),
                                              .sums_ld = args.sums.ld,
                                              .to = splits == 1 ? args.dweight.as<A>() : partial,
                                              .size = args.map.size,
                                              .representatives = args.map.representatives,
                                              .filters = static_cast<int>(s.K),
                                              .splits = splits};
  const std::int64_t columns = s.R() * s.S() * s.C;
  const dim3 grid(static_cast<unsigned>(ConvTiles(s.K)), static_cast<unsigned>(ConvTiles(columns)), static_cast<unsigned>(splits));
  const cudaLaunchConfig_t config = LaunchConfig(target, grid, dim3(kConvThreads));
  const cudaError_t error = cudaLaunchKernelEx(&config, ConvTileKernel<MappedWeightProduct<T, kWide>>, product);
  if (error != cudaSuccess) return stream.Fail(ToStatus(error, "MappedConvBackwardWeight", __FILE__, __LINE__, s.ToString()));
  if (splits > 1) LaunchAddSplits(stream, partial, args.dweight.as<A>(), s.K * columns, splits);
}

}  // namespace

void MappedConvForwardPlain(Stream& stream, const MappedConvForwardArgs& args) {
  const std::int64_t C = args.shape.C;
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const bool wide = AllowsFour(args.in.as<T>(), C, C) && AllowsFour(args.weight.as<T>(), C, C);
    return wide ? Launch<T, true>(stream, args) : Launch<T, false>(stream, args);
  });
}

void MappedConvBackwardWeightPlain(Stream& stream, const MappedConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const bool wide = AllowsFour(args.in.as<T>(), s.C, s.C) && AllowsFour(static_cast<const T*>(args.sums.data), s.K, args.sums.ld);
    return wide ? Launch<T, true>(stream, args) : Launch<T, false>(stream, args);
  });
}

}  // namespace lycia::cuda
