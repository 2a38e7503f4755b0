// Column sums, in vectors of columns.
#include <algorithm>

#include "kernels/cpu/vector_loop.h"
#include "kernels/gemm/gemm.h"

namespace lycia::cpu {
namespace {

// Short sums first, as in the layer norm's weight gradient.
constexpr std::int64_t kRowsAtOnce = 64;

template <typename V, bool kWhole, typename T = Element<V>>
LYCIA_INLINE inline void AddColumnSums(const Lanes<V, kWhole>& lanes, const T* dout, std::int64_t rows, std::int64_t ld, T* dbias) {
  V total{};
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    V sum{};
    for (std::int64_t r = begin; r < std::min(begin + kRowsAtOnce, rows); ++r) sum += lanes.Get(dout + r * ld);
    total += sum;
  }
  lanes.Put(dbias, lanes.Get(dbias) + total);
}

// bf16 is widened a strip of columns at a time; the sums are those of f32.
constexpr std::int64_t kStrip = 64;

void AddColumnSumsOfBf16(const ConstMatrix& dout, float* dbias) {
  const auto* from = static_cast<const BFloat16*>(dout.data);
  for (std::int64_t begin = 0; begin < dout.cols; begin += kStrip) {
    const std::int64_t cols = std::min(kStrip, dout.cols - begin);
    float total[kStrip] = {};
    for (std::int64_t first = 0; first < dout.rows; first += kRowsAtOnce) {
      float sum[kStrip] = {};
      for (std::int64_t r = first; r < std::min(first + kRowsAtOnce, dout.rows); ++r) {
        const BFloat16* row = from + r * dout.ld + begin;
        for (std::int64_t j = 0; j < cols; ++j) sum[j] += static_cast<float>(row[j]);
      }
      for (std::int64_t j = 0; j < cols; ++j) total[j] += sum[j];
    }
    for (std::int64_t j = 0; j < cols; ++j) dbias[begin + j] += total[j];
  }
}

}  // namespace

void BiasGradient(Stream&, const BiasGradientArgs& args) {
  LYCIA_CHECK_EQ(args.dbias.elements(), args.dout.cols);
  if (args.dout.dtype == DType::kBF16)
    return ForBestIsa([&](auto) LYCIA_INLINE { AddColumnSumsOfBf16(args.dout, args.dbias.as<float>()); });
  LYCIA_CHECK(args.dout.dtype == args.dbias.dtype) << "dout is " << Name(args.dout.dtype) << ", dbias " << Name(args.dbias.dtype) << " ";
  DispatchFloat(args.dbias.dtype, [&]<typename T>() {
    const T* dout = static_cast<const T*>(args.dout.data);
    T* dbias = args.dbias.as<T>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(args.dout.cols, [&](auto lanes) LYCIA_INLINE { AddColumnSums(lanes, dout, args.dout.rows, args.dout.ld, dbias); });
    });
  });
}

}  // namespace lycia::cpu
