#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/reuse/scatter.h"

namespace lycia::cpu {
namespace {

void CopyRows(Stream& stream, const ScatterRowsArgs& args) {
  const std::int64_t element = SizeOf(args.c.dtype), bytes = args.y.cols * element;
  const auto* c = static_cast<const char*>(args.c.data);
  auto* y = static_cast<char*>(args.y.data);
  ForEachPart(stream, {.count = args.y.rows, .bytes_each = 2 * bytes}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t m = begin; m < end; ++m) {
      std::memcpy(y + m * args.y.ld * element, c + args.map.ids[m] * args.c.ld * element, static_cast<std::size_t>(bytes));
    }
  });
}

// C: of c, which may be wider than S, of the rest.
template <typename C, typename S>
void AddRows(Stream& stream, const ScatterRowsArgs& args) {
  const auto* c = static_cast<const C*>(args.c.data);
  const auto* residual = static_cast<const S*>(args.residual.data);
  auto* y = static_cast<S*>(args.y.data);
  const std::int64_t cols = args.y.cols, c_ld = args.c.ld, y_ld = args.y.ld, residual_ld = args.residual.ld;
  const std::int32_t *ids = args.map.ids, *counts = args.map.counts;
  const bool mean = args.mean;
  ForEachPart(stream, {.count = args.y.rows, .bytes_each = cols * (SizeOf(args.c.dtype) + 2 * SizeOf(args.y.dtype))},
              [&](std::int64_t begin, std::int64_t end, int) {
                ForBestIsa([=](auto isa) LYCIA_INLINE {
                  using V = Vector<Arithmetic<S>, decltype(isa)::value>;
                  for (std::int64_t m = begin; m < end; ++m) {
                    const C* from = c + ids[m] * c_ld;
                    const S* add = residual == nullptr ? nullptr : residual + m * residual_ld;
                    S* to = y + m * y_ld;
                    const auto divisor = static_cast<Element<V>>(mean ? counts[ids[m]] : 1);
                    ForEachVector<V>(cols, [=](auto lanes) LYCIA_INLINE {
                      const V v = lanes.Get(from) / divisor;
                      lanes.Put(to, add == nullptr ? v : v + lanes.Get(add));
                    });
                  }
                });
              });
}

}  // namespace

void ScatterRows(Stream& stream, const ScatterRowsArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "ScatterRows")) return;
  const Matrix& y = args.y;
  LYCIA_CHECK(y.rows == args.map.extent && y.ld >= y.cols) << "[" << y.rows << ", " << y.cols << "] for " << args.map.ToString() << " ";
  LYCIA_CHECK(args.c.rows >= *args.map.size && args.c.cols == y.cols && args.c.ld >= y.cols)
      << Name(args.c.dtype) << " [" << args.c.rows << ", " << args.c.cols << "] to " << Name(y.dtype) << " [" << y.rows << ", " << y.cols
      << "], " << *args.map.size << " clusters ";
  const bool wide = y.dtype == DType::kBF16 && args.c.dtype == DType::kF32 && args.residual.data != nullptr;
  LYCIA_CHECK(args.c.dtype == y.dtype || wide) << Name(args.c.dtype) << " to " << Name(y.dtype) << " ";
  if (!args.mean && args.residual.data == nullptr) return CopyRows(stream, args);
  if (args.residual.data != nullptr) {
    LYCIA_CHECK(args.residual.rows == y.rows && args.residual.cols == y.cols && args.residual.ld >= y.cols &&
                args.residual.dtype == y.dtype)
        << "residual is " << Name(args.residual.dtype) << " [" << args.residual.rows << ", " << args.residual.cols << "] ";
  }
  if (wide) return AddRows<float, BFloat16>(stream, args);
  DispatchStored(y.dtype, [&]<typename S>() { AddRows<S, S>(stream, args); });
}

}  // namespace lycia::cpu
