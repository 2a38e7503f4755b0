// BuildPatchMap on CUDA: patches are compared where they lie in the image, none is written out.
//   sign pixels  a warp signs a pixel as BuildIndexMap does a row (row_words.cuh), once for all the patches that see it; one more signs
//                what lies outside
//   project      (lsh) the projections are filters: ConvForward with H of them, then a thread a cell
//   sign, link   cluster_rows.cuh, a warp a patch: R S words of the plane of signatures; a match is verified on the image
//   number       number_clusters_cuda.h
// So the map is the CPU's, whatever order threads come in (lsh: but for projections that rounding puts across a border). Bytes moved: the
// image once, 8 (R S + 1) bytes a patch of the plane, from L2, and of patches that repeat their R S C elements and their first's, from L2
// as far as neighbours share them. Bound by L2 where channels are many, by its instructions where they are few. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/conv/conv.h"
#include "kernels/conv/conv_plain.h"
#include "kernels/cuda/map.cuh"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/cluster_rows.cuh"
#include "kernels/reuse/patch_check.h"
#include "kernels/reuse/patch_words.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// signatures[pixel] for all pixels, and for the one of zeros behind them.
template <typename Keys>
__global__ void __launch_bounds__(32 * kRowWarps) SignPixelsKernel(Keys keys, Keys zeros, std::int64_t pixels, std::uint64_t* signatures) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t pixel = std::int64_t{blockIdx.x} * kRowWarps + static_cast<int>(threadIdx.x) / 32;
  if (pixel > pixels) return;
  const std::uint64_t signature = pixel < pixels ? keys.Signature(pixel, lane) : zeros.Signature(0, lane);
  if (lane == 0) signatures[pixel] = signature;
}

template <typename A>
struct CellMap {
  static constexpr int kVector = 1;
  A* cells;  // [patches, count]: projections, then cells
  A reciprocal_width;
  const double* shifts;
  std::int64_t count;
  template <int V>
  __device__ void Run(std::int64_t patch, std::int64_t h) const {
    A& cell = cells[patch * count + h];
    cell = CellOf(cell, reciprocal_width, shifts[h]);
  }
};

template <typename S, int V>
class PatchMap {
 public:
  PatchMap(Stream& stream, const BuildPatchMapArgs& args)
      : stream_(stream),
        args_(args),
        pixels_(args.shape.N * args.shape.H() * args.shape.W()),
        zeros_(static_cast<char*>(args.workspace)),
        plane_(reinterpret_cast<std::uint64_t*>(zeros_ + PatchZerosBytes(args.in.dtype, args.shape))),
        rest_(zeros_ + PatchPlaneBytes(args.in.dtype, args.shape)),
        bits_{PlainPatchesOf<U>(args.shape, args.in.data), PlainPatchesOf<std::uint64_t>(OneChannel(args.shape), plane_),
              plane_ + pixels_} {}

  void Build() {
    stream_.Zero(zeros_, PatchZerosBytes(args_.in.dtype, args_.shape));
    switch (args_.rule.policy) {
      case ReusePolicy::kExact:
        SignPixels(PixelBits(args_.in.data), PixelBits(zeros_));
        return ClusterByKeys(stream_, kKernel, bits_, args_.map, rest_);
      case ReusePolicy::kQuantized: {
        using Keys = QuantizedKeys<S, U, kWide>;
        const auto reciprocal = static_cast<A>(1 / args_.rule.delta);
        SignPixels(Keys{PixelBits(args_.in.data), reciprocal}, Keys{PixelBits(zeros_), reciprocal});
        return ClusterByKeys(stream_, kKernel, QuantizedPatches<S, U, V>{bits_, reciprocal}, args_.map, rest_);
      }
      case ReusePolicy::kLsh: {
        SignPixels(PixelBits(args_.in.data), PixelBits(zeros_));  // of patches whose cells are no numbers
        auto* const cells = reinterpret_cast<A*>(rest_);
        const int count = static_cast<int>(args_.rule.projections.rows);
        Project(cells, count);
        return ClusterByKeys(stream_, kKernel, CellKeys<A, PatchBits<U, V>>{bits_, cells, count}, args_.map,
                             rest_ + CellBytes(args_.rule, args_.in.dtype, args_.map.extent));
      }
    }
  }

 private:
  using U = BitsOf<S>;
  using A = Arithmetic<S>;
  static constexpr const char* kKernel = "BuildPatchMap";
  static constexpr bool kWide = V * sizeof(U) == kWidestAccess;

  static ConvShape OneChannel(ConvShape shape) {
    shape.C = 1;
    return shape;
  }
  BitKeys<U, kWide> PixelBits(const void* data) const {
    return {{static_cast<const U*>(data), args_.shape.C, static_cast<int>(args_.shape.C)}};
  }
  template <typename Keys>
  void SignPixels(const Keys& keys, const Keys& zeros) {
    const cudaLaunchConfig_t config = LaunchConfig(TargetOf(stream_), dim3(RowBlocks(pixels_ + 1)), dim3(32 * kRowWarps));
    const cudaError_t error = cudaLaunchKernelEx(&config, SignPixelsKernel<Keys>, keys, zeros, pixels_, plane_);
    if (error != cudaSuccess) stream_.Fail(ToStatus(error, kKernel, __FILE__, __LINE__, args_.shape.ToString()));
  }
  void Project(A* cells, int count) {
    const ConstMatrix& a = args_.rule.projections;
    LYCIA_CHECK_EQ(a.ld, a.cols);
    ConvShape shape = args_.shape;
    shape.K = count;
    cuda::ConvForward(stream_, {.shape = shape,
                                .in = args_.in,
                                .weight = {a.data, a.dtype, {shape.K, shape.R(), shape.S(), shape.C}},
                                .out = {cells, ArithmeticDType(a.dtype), {shape.N, shape.P(), shape.Q(), shape.K}}});
    LaunchMap(stream_, "BuildPatchMap, cells", args_.map.extent, count, {Flat(cells)},
              CellMap<A>{cells, static_cast<A>(1 / args_.rule.width), args_.rule.shifts.as<double>(), count});
  }

  Stream& stream_;
  const BuildPatchMapArgs& args_;
  std::int64_t pixels_;
  char* zeros_;
  std::uint64_t* plane_;
  char* rest_;
  PatchBits<U, V> bits_;
};

}  // namespace

void BuildPatchMap(Stream& stream, const BuildPatchMapArgs& args) {
  const ConvShape& s = args.shape;
  if (!ArePatches(stream, "BuildPatchMap", args.map, s, args.in)) return;
  CheckRule(args.rule, args.in.dtype, s.R() * s.S() * s.C);
  const char* reason = RejectConvPlain(s);
  if (args.map.extent > kMostClusteredRows) reason = "more than 2^29 patches; use smaller micro-batches";
  if (reason != nullptr) return stream.Fail(InvalidArgument("BuildPatchMap of ", s.ToString(), " on CUDA: ", reason));
  DispatchAnyStored(args.in.dtype, [&]<typename S>() {
    constexpr int kVector = kWidest<S>;
    const bool wide = s.C % kVector == 0 && MapAllows(kVector, {Rows(args.in.as<S>(), s.C)});
    return wide ? PatchMap<S, kVector>(stream, args).Build() : PatchMap<S, 1>(stream, args).Build();
  });
}

}  // namespace lycia::cuda
