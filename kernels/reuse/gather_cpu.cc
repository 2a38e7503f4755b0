#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/reuse/cluster_loop.h"
#include "kernels/reuse/gather.h"

namespace lycia::cpu {
namespace {

void CheckRows(const IndexMap& map, const ConstMatrix& x, const Matrix& to) {
  LYCIA_CHECK(x.rows == map.extent && x.ld >= x.cols)
      << "[" << x.rows << ", " << x.cols << "] are not the rows of " << map.ToString() << " ";
  LYCIA_CHECK(to.rows >= *map.size && to.cols == x.cols && to.ld >= to.cols)
      << "[" << to.rows << ", " << to.cols << "] for " << *map.size << " clusters of [" << x.rows << ", " << x.cols << "] ";
}

// Columns whose sums stand in the nearest cache, and members that are added in one pass over them.
constexpr std::int64_t kStrip = 1024;
constexpr std::int64_t kAtOnce = 4;

// sums[k] (=, if first, else +=) of up to kAtOnce rows.
template <typename V, typename S>
LYCIA_INLINE inline void AddRows(const S* const* rows, std::int64_t count, bool first, std::int64_t cols, Element<V>* sums) {
  ForEachVector<V>(cols, [=](auto lanes) LYCIA_INLINE {
    V sum = first ? V{} : lanes.Get(sums);
    sum = first ? lanes.Get(rows[0]) : sum + lanes.Get(rows[0]);
    for (std::int64_t i = 1; i < count; ++i) sum += lanes.Get(rows[i]);
    lanes.Put(sums, sum);
  });
}

template <typename V, typename S, typename To>
LYCIA_INLINE inline void SumCluster(const S* from, std::int64_t ld, const std::int32_t* members, std::int64_t count, bool mean,
                                    std::int64_t cols, To* to) {
  alignas(64) Element<V> sums[kStrip];
  const auto divisor = static_cast<Element<V>>(mean ? count : 1);
  for (std::int64_t begin = 0; begin < cols; begin += kStrip) {
    const std::int64_t width = std::min(kStrip, cols - begin);
    Element<V>* strip = sums;
    for (std::int64_t i = 0; i < count; i += kAtOnce) {
      const S* rows[kAtOnce];
      const std::int64_t some = std::min(kAtOnce, count - i);
      for (std::int64_t r = 0; r < some; ++r) rows[r] = from + members[i + r] * ld + begin;
      AddRows<V, S>(rows, some, i == 0, width, strip);
    }
    To* out = to + begin;
    ForEachVector<V>(width, [=](auto lanes) LYCIA_INLINE {
      const V sum = lanes.Get(strip);
      lanes.Put(out, mean ? sum / divisor : sum);
    });
  }
}

}  // namespace

void GatherRows(Stream& stream, const GatherRowsArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "GatherRows")) return;
  CheckRows(args.map, args.x, args.to);
  LYCIA_CHECK(args.to.dtype == args.x.dtype) << "rows of " << Name(args.x.dtype) << " to " << Name(args.to.dtype) << " ";
  const std::int64_t element = SizeOf(args.x.dtype), bytes = args.x.cols * element;
  const auto* from = static_cast<const char*>(args.x.data);
  auto* to = static_cast<char*>(args.to.data);
  ForEachPart(stream, {.count = *args.map.size, .bytes_each = 2 * bytes}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t j = begin; j < end; ++j) {
      std::memcpy(to + j * args.to.ld * element, from + args.map.representatives[j] * args.x.ld * element, static_cast<std::size_t>(bytes));
    }
  });
}

void SegmentSum(Stream& stream, const SegmentSumArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "SegmentSum")) return;
  CheckRows(args.map, args.dy, args.to);
  const DType dtype = args.dy.dtype;
  LYCIA_CHECK(args.to.dtype == dtype || args.to.dtype == ArithmeticDType(dtype))
      << "sums of " << Name(dtype) << " as " << Name(args.to.dtype) << " ";
  const IndexMap map = args.map;
  const std::int64_t cols = args.dy.cols, ld = args.dy.ld, to_ld = args.to.ld;
  const bool mean = args.mean;
  DispatchStored(dtype, [&]<typename S>() {
    DispatchStored(args.to.dtype, [&]<typename To>() {
      if constexpr (std::is_same_v<S, To> || std::is_same_v<Arithmetic<S>, To>) {
        const auto* from = static_cast<const S*>(args.dy.data);
        auto* to = static_cast<To*>(args.to.data);
        ForEachClusters(stream, map, 2 * cols * SizeOf(dtype), [&](std::int64_t first, std::int64_t last) {
          ForBestIsa([=](auto isa) LYCIA_INLINE {
            using V = Vector<Arithmetic<S>, decltype(isa)::value>;
            for (std::int64_t j = first; j < last; ++j) {
              SumCluster<V>(from, ld, map.members + map.offsets[j], map.counts[j], mean, cols, to + j * to_ld);
            }
          });
        });
      }
    });
  });
}

}  // namespace lycia::cpu
