// Mapped convolutions by strips of distinct patches, written out in the stream's workspace and multiplied as matrices
// (mapped_conv_strips.h): a thread copies up to 16 bytes of one patch, and one thread leaves the strip's number of patches for the product.
// Bytes moved: of U patches R S C elements read from the image, mostly from L2, written to the workspace and read there, from L2 as far as
// that keeps 32 MiB. Limit: with K filters, K operations for each byte of a patch that is copied; above some hundred filters the products.
// Not yet run on a GPU.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/conv/conv_plain_tile.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/reuse/mapped_conv_cuda.h"
#include "kernels/reuse/mapped_conv_strips.h"
#include "kernels/reuse/row_words.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// to[i] = the patch at representatives[first + i]. U: unsigned numbers as wide as the elements.
template <typename U, int kWidth>
struct GatherPatchesMap {
  static constexpr int kVector = kWidth;  // divides the channels
  PlainPatches<U> patches;
  const std::int32_t *size, *representatives;
  std::int64_t first, strip, to_ld;
  std::int32_t* strip_size;
  U* to;
  template <int V>
  __device__ void Run(std::int64_t i, std::int64_t d) const {
    const std::int64_t left = *size - first, count = left < 0 ? 0 : left < strip ? left : strip;
    if (i == 0 && d == 0) *strip_size = static_cast<std::int32_t>(count);
    if (i >= count) return;
    const int tap = static_cast<int>(d) / patches.channels, r = tap / patches.taps_w, c = static_cast<int>(d) - tap * patches.channels;
    const U* from = patches.Pixel(patches.At(representatives[first + i]), r, tap - r * patches.taps_w);
    *reinterpret_cast<Pack<U, V>*>(to + i * to_ld + d) = from == nullptr ? Pack<U, V>{} : *reinterpret_cast<const Pack<U, V>*>(from + c);
  }
};

// max(x, 0) of as many rows as the map says; a NaN stays one.
template <typename S>
struct ReluRowsMap {
  static constexpr int kVector = kWidest<S>;
  const std::int32_t* size;
  S* c;
  std::int64_t ld;
  template <int V>
  __device__ void Run(std::int64_t j, std::int64_t k) const {
    if (j >= *size) return;
    Values<Arithmetic<S>, V> values = Load<V>(c + j * ld + k);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = values[i] < Arithmetic<S>(0) ? Arithmetic<S>(0) : values[i];
    Store<V>(c + j * ld + k, values);
  }
};

struct Strips {
  const char* kernel;
  const IndexMap& map;
  const ConvShape& shape;
  const ConstTensor& in;
  std::int64_t strip;
};

// multiply(map of the strip's patches, the patches, the first of them) for all strips that there may be.
template <typename Multiply>
void ForEachStrip(Stream& stream, const Strips& s, const Multiply& multiply) {
  const StreamTarget target = TargetOf(stream);
  const std::int64_t depth = s.shape.R() * s.shape.S() * s.shape.C;
  auto* const strip_size = static_cast<std::int32_t*>(target.kernel_workspace);
  char* const patches = static_cast<char*>(target.kernel_workspace) + kStripHeadBytes;
  DispatchAnyStored(s.in.dtype, [&]<typename S>() {
    using U = BitsOf<S>;
    const auto gather = [&]<int kWidth>(std::int64_t first, std::int64_t rows) {
      const GatherPatchesMap<U, kWidth> f{
          PlainPatchesOf<U>(s.shape, s.in.data), s.map.size, s.map.representatives, first, s.strip, depth, strip_size,
          reinterpret_cast<U*>(patches)};
      LaunchMap(stream, s.kernel, rows, depth, {Rows(f.patches.data, s.shape.C), Rows(f.to, depth)}, f);
    };
    const bool wide = s.shape.C % kWidest<U> == 0;
    for (std::int64_t first = 0; first < s.map.extent && stream.ok(); first += s.strip) {
      const std::int64_t rows = std::min(s.strip, s.map.extent - first);
      wide ? gather.template operator()<kWidest<U>>(first, rows) : gather.template operator()<1>(first, rows);
      const IndexMap of_strip{.extent = rows, .size = strip_size};  // all that a product over rows, or depth, reads of it
      multiply(of_strip, ConstMatrix{patches, s.in.dtype, rows, depth, depth}, first);
    }
  });
}

}  // namespace

void MappedConvForwardByStrips(Stream& stream, const MappedConvForwardArgs& args, std::int64_t strip) {
  const std::int64_t K = args.shape.K, depth = args.shape.R() * args.shape.S() * args.shape.C;
  const auto multiply = [&](const IndexMap& map, const ConstMatrix& patches, std::int64_t first) {
    Matrix c = args.c;
    c.data = static_cast<char*>(c.data) + first * c.ld * SizeOf(c.dtype);
    c.rows = patches.rows;
    cuda::MappedGemm(
        stream,
        {.map = map,
         .gemm = {
             .a = patches, .b = {args.weight.data, args.weight.dtype, K, depth, depth}, .transpose_b = true, .c = c, .bias = args.bias}});
  };
  ForEachStrip(stream, {"MappedConvForward, patches", args.map, args.shape, args.in, strip}, multiply);
  if (!args.relu) return;
  DispatchAnyStored(args.c.dtype, [&]<typename S>() {
    const ReluRowsMap<S> relu{args.map.size, static_cast<S*>(args.c.data), args.c.ld};
    LaunchMap(stream, "MappedConvForward, ReLU", std::min(args.c.rows, args.map.extent), K, {Rows(relu.c, relu.ld)}, relu);
  });
}

void MappedConvBackwardWeightByStrips(Stream& stream, const MappedConvBackwardWeightArgs& args, std::int64_t strip) {
  const std::int64_t K = args.shape.K, depth = args.shape.R() * args.shape.S() * args.shape.C;
  const auto multiply = [&](const IndexMap& map, const ConstMatrix& patches, std::int64_t first) {
    ConstMatrix sums = args.sums;
    sums.data = static_cast<const char*>(sums.data) + first * sums.ld * SizeOf(sums.dtype);
    sums.rows = patches.rows;
    cuda::MappedGemm(stream, {.map = map,
                              .over = MappedOver::kDepth,
                              .gemm = {.a = sums,
                                       .transpose_a = true,
                                       .b = patches,
                                       .c = {args.dweight.data, args.dweight.dtype, K, depth, depth},
                                       .accumulate = true}});
  };
  ForEachStrip(stream, {"MappedConvBackwardWeight, patches", args.map, args.shape, args.in, strip}, multiply);
}

}  // namespace lycia::cuda
