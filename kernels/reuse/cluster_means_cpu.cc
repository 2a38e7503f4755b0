#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/vector_loop.h"
#include "kernels/reuse/cluster_loop.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/patch_check.h"
#include "kernels/reuse/patch_means.h"

namespace lycia::cpu {
namespace {

// Sums of a cluster's meter.
struct Squares {
  double all = 0, error = 0;
};

// Sums in f64 of squares of vectors of f32 or f64. Halves are kept apart: of a vector wider than a register the compiler makes memory.
template <Isa isa, typename T>
struct SquareSums {
  static constexpr int kParts = static_cast<int>(sizeof(double) / sizeof(T));
  using V = Vector<T, isa>;
  using Wide = Vector<double, isa>;
  using Part = SameLanes<Wide, T>;
  Wide low{}, high{};
  LYCIA_INLINE void Add(const V& v) {
    Part parts[kParts];
    std::memcpy(parts, &v, sizeof v);
    const Wide first = __builtin_convertvector(parts[0], Wide);
    low += first * first;
    if constexpr (kParts > 1) {
      const Wide second = __builtin_convertvector(parts[1], Wide);
      high += second * second;
    }
  }
  LYCIA_INLINE void Add(const SquareSums& other, double factor) {
    low += other.low * factor;
    high += other.high * factor;
  }
  LYCIA_INLINE double Sum() const { return SumOf<Wide>(low + high); }
};

// The mean of columns that row_of(0) .. row_of(count - 1) hold, and its meter, about the first, x0: with d = x - x0,
//   c = x0 + sum d / n  and  sum |x - c|^2 = sum |d|^2 - |sum d|^2 / n.
template <Isa isa, typename S, typename RowOf>
LYCIA_INLINE inline void MeanOfColumns(const RowOf& row_of, std::int64_t count, std::int64_t cols, S* to, Squares* squares) {
  using V = Vector<Arithmetic<S>, isa>;
  const auto n = static_cast<Element<V>>(count);
  using Sums = SquareSums<isa, Element<V>>;
  Sums of_rows, of_errors;
  Sums *rows = &of_rows, *errors = &of_errors;
  // One vector of columns at a time: its sums stay in registers.
  ForEachVector<V>(cols, [=](auto lanes) LYCIA_INLINE {
    const V first = lanes.Get(row_of(0));
    V sum{};
    Sums of_x, of_d;
    if (squares == nullptr) {
      for (std::int64_t i = 1; i < count; ++i) {
        const V x = lanes.Get(row_of(i));
        sum += x == first ? V{} : x - first;
      }
    } else {
      of_x.Add(first);
      for (std::int64_t i = 1; i < count; ++i) {
        const V x = lanes.Get(row_of(i)), d = x == first ? V{} : x - first;
        sum += d;
        of_x.Add(x);
        of_d.Add(d);
      }
    }
    lanes.Put(to, first + sum / n);
    if (squares == nullptr) return;
    Sums of_sum;
    of_sum.Add(sum);
    of_d.Add(of_sum, -1.0 / static_cast<double>(count));
    rows->Add(of_x, 1);
    errors->Add(of_d, 1);
  });
  if (squares == nullptr) return;
  squares->all += of_rows.Sum();
  squares->error += of_errors.Sum();
}

// mean(cluster, squares or null) for all clusters, on all threads; then the meter, in the order of the clusters.
template <typename Mean>
void ForEachMean(Stream& stream, const IndexMap& map, std::int64_t bytes_each, ReuseMeter* meter, void* workspace, const Mean& mean) {
  LYCIA_CHECK(meter == nullptr || workspace != nullptr) << "a meter needs a workspace ";
  auto* squares = meter == nullptr ? nullptr : static_cast<Squares*>(workspace);
  ForEachClusters(stream, map, bytes_each, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t j = first; j < last; ++j) {
      if (squares != nullptr) squares[j] = {};
      mean(j, squares == nullptr ? nullptr : squares + j);
    }
  });
  if (meter == nullptr) return;
  *meter = {};
  for (std::int64_t j = 0; j < *map.size; ++j) {
    meter->squares += squares[j].all;
    meter->error_squares += squares[j].error;
  }
}

void CheckMeans(const IndexMap& map, DType dtype, std::int64_t depth, const Matrix& to) {
  LYCIA_CHECK(to.dtype == dtype) << "means of " << Name(dtype) << " as " << Name(to.dtype) << " ";
  LYCIA_CHECK(to.rows >= *map.size && to.cols == depth && to.ld >= depth)
      << "[" << to.rows << ", " << to.cols << "] for " << *map.size << " clusters of rows of " << depth << " ";
}

// Where tap (0, 0) of each patch lies; it may be outside.
struct Corner {
  std::int32_t n, h, w;
};

// The pixel of a patch that one tap sees, or zeros.
template <typename S>
struct TapRows {
  const S* in;
  const S* zeros;
  const Corner* corners;
  const std::int32_t* members;
  std::int64_t H, W, C, down, right;
  LYCIA_INLINE const S* operator()(std::int64_t i) const {
    const Corner& corner = corners[members[i]];
    const std::int64_t h = corner.h + down, w = corner.w + right;
    if (h < 0 || h >= H || w < 0 || w >= W) return zeros;
    return in + ((corner.n * H + h) * W + w) * C;
  }
};

std::int64_t Aligned(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

void ClusterMeans(Stream& stream, const ClusterMeansArgs& args) {
  const IndexMap map = args.map;
  const ConstMatrix& x = args.x;
  if (!IsPartitionOfRows(stream, map, "ClusterMeans")) return;
  LYCIA_CHECK(x.rows == map.extent && x.ld >= x.cols)
      << "[" << x.rows << ", " << x.cols << "] are not the rows of " << map.ToString() << " ";
  CheckMeans(map, x.dtype, x.cols, args.to);
  DispatchStored(x.dtype, [&]<typename S>() {
    const auto* from = static_cast<const S*>(x.data);
    auto* to = static_cast<S*>(args.to.data);
    const std::int64_t cols = x.cols, ld = x.ld, to_ld = args.to.ld;
    ForEachMean(stream, map, 2 * cols * SizeOf(x.dtype), args.meter, args.workspace, [=](std::int64_t j, Squares* squares) {
      const std::int32_t* members = map.members + map.offsets[j];
      const std::int64_t count = map.counts[j];
      S* row = to + j * to_ld;
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        MeanOfColumns<decltype(isa)::value>([=](std::int64_t i) LYCIA_INLINE { return from + members[i] * ld; }, count, cols, row, squares);
      });
    });
  });
}

void ClusterPatchMeans(Stream& stream, const ClusterPatchMeansArgs& args) {
  const IndexMap map = args.map;
  const ConvShape& s = args.shape;
  if (!ArePatches(stream, "ClusterPatchMeans", map, s, args.in)) return;
  CheckMeans(map, args.in.dtype, s.R() * s.S() * s.C, args.to);
  LYCIA_CHECK(args.workspace != nullptr) << "patches need a workspace ";
  auto* zeros = static_cast<char*>(args.workspace) + ClusterMeansBytes(map.extent);
  std::memset(zeros, 0, static_cast<std::size_t>(s.C * SizeOf(args.in.dtype)));
  auto* corners = reinterpret_cast<Corner*>(zeros + Aligned(s.C * SizeOf(args.in.dtype)));
  ForEachPart(stream, {.count = map.extent, .bytes_each = 64}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t m = begin; m < end; ++m) {
      const std::int64_t line = m / s.Q();
      corners[m] = {static_cast<std::int32_t>(line / s.P()), static_cast<std::int32_t>(s.height.InputOf(line % s.P(), 0)),
                    static_cast<std::int32_t>(s.width.InputOf(m % s.Q(), 0))};
    }
  });
  DispatchStored(args.in.dtype, [&]<typename S>() {
    auto* to = static_cast<S*>(args.to.data);
    const std::int64_t bytes_each = 2 * args.to.cols * SizeOf(args.in.dtype);
    ForEachMean(stream, map, bytes_each, args.meter, args.workspace, [&](std::int64_t j, Squares* squares) {
      const std::int64_t count = map.counts[j], channels = s.C;
      TapRows<S> rows = {
          args.in.as<S>(), reinterpret_cast<const S*>(zeros), corners, map.members + map.offsets[j], s.H(), s.W(), s.C, 0, 0};
      S* at = to + j * args.to.ld;
      for (std::int64_t r = 0; r < s.R(); ++r) {
        for (std::int64_t t = 0; t < s.S(); ++t, at += s.C) {
          rows.down = r * s.height.dilation;
          rows.right = t * s.width.dilation;
          ForBestIsa([=](auto isa) LYCIA_INLINE { MeanOfColumns<decltype(isa)::value>(rows, count, channels, at, squares); });
        }
      }
    });
  });
}

}  // namespace lycia::cpu

namespace lycia {

double RelativeError(const ReuseMeter& meter) {
  return meter.squares > 0 ? std::sqrt(std::max(meter.error_squares, 0.0) / meter.squares) : 0;
}

std::int64_t ClusterMeansBytes(std::int64_t rows) { return cpu::Aligned(rows * static_cast<std::int64_t>(sizeof(cpu::Squares))); }

std::int64_t ClusterPatchMeansBytes(DType dtype, const ConvShape& shape) {
  const std::int64_t patches = shape.N * shape.P() * shape.Q();
  return ClusterMeansBytes(patches) + cpu::Aligned(shape.C * SizeOf(dtype)) +
         cpu::Aligned(patches * static_cast<std::int64_t>(sizeof(cpu::Corner)));
}

}  // namespace lycia
