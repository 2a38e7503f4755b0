#include <algorithm>

#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/cluster_rows.h"
#include "kernels/reuse/cluster_workspace.h"
#include "kernels/reuse/projection_keys.h"
#include "kernels/reuse/row_signature.h"

namespace lycia::cpu {
namespace {

// The rows of a matrix as bits, and as numbers.
struct Rows {
  const char* data;
  std::int64_t cols, ld, element_bytes;
  const char* At(std::int64_t row) const { return data + row * ld * element_bytes; }
  bool SameBits(std::int64_t row, std::int64_t other) const {
    bool equal = false;
    bool* to = &equal;
    const char *a = At(row), *b = At(other);
    const std::int64_t bytes = cols * element_bytes;
    ForBestIsa([=](auto isa) LYCIA_INLINE { *to = BitsEqual<decltype(isa)::value>(a, b, bytes); });
    return equal;
  }
};

void ClusterByBits(const Rows& rows, const IndexMap& map, void* workspace, ThreadPool& pool) {
  const std::int64_t bytes = rows.cols * rows.element_bytes;
  ClusterRows({.sign =
                   [&](std::int64_t first, std::int64_t count, std::uint64_t* signatures) {
                     ForBestIsa([=, &rows](auto isa) LYCIA_INLINE {
                       for (std::int64_t i = 0; i < count; ++i) {
                         signatures[i] = SignatureOfBits<decltype(isa)::value>(rows.At(first + i), bytes);
                       }
                     });
                   },
               .equal = [&](std::int64_t row, std::int64_t other) { return rows.SameBits(row, other); }},
              map, workspace, pool);
}

template <typename S>
void ClusterByQuantized(const Rows& rows, double delta, const IndexMap& map, void* workspace, ThreadPool& pool) {
  const auto reciprocal = static_cast<Arithmetic<S>>(1 / delta);
  const std::int64_t cols = rows.cols;
  ClusterRows({.sign =
                   [&](std::int64_t first, std::int64_t count, std::uint64_t* signatures) {
                     ForBestIsa([=, &rows](auto isa) LYCIA_INLINE {
                       for (std::int64_t i = 0; i < count; ++i) {
                         signatures[i] =
                             SignatureOfQuantized<decltype(isa)::value>(reinterpret_cast<const S*>(rows.At(first + i)), cols, reciprocal);
                       }
                     });
                   },
               .equal =
                   [&](std::int64_t row, std::int64_t other) {
                     bool equal = false;
                     bool* to = &equal;
                     const auto *a = reinterpret_cast<const S*>(rows.At(row)), *b = reinterpret_cast<const S*>(rows.At(other));
                     ForBestIsa([=](auto isa) LYCIA_INLINE { *to = QuantizedEqual<decltype(isa)::value>(a, b, cols, reciprocal); });
                     return equal || rows.SameBits(row, other);
                   }},
              map, workspace, pool);
}

}  // namespace

void BuildIndexMap(Stream& stream, const BuildIndexMapArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "BuildIndexMap")) return;
  const ConstMatrix& x = args.rows;
  LYCIA_CHECK_EQ(x.rows, args.map.extent);
  LYCIA_CHECK(x.ld >= x.cols) << "a leading dimension is shorter than its row ";
  CheckRule(args.rule, x.dtype, x.cols);
  const Rows rows = {static_cast<const char*>(x.data), x.cols, x.ld, SizeOf(x.dtype)};
  ThreadPool& pool = *stream.pool();
  if (args.rule.policy == ReusePolicy::kExact) return ClusterByBits(rows, args.map, args.workspace, pool);
  if (args.rule.policy == ReusePolicy::kQuantized) {
    return DispatchStored(x.dtype, [&]<typename S>() { ClusterByQuantized<S>(rows, args.rule.delta, args.map, args.workspace, pool); });
  }
  const ProjectionKeys keys = {args.workspace, ArithmeticDType(x.dtype), x.rows, args.rule.projections.rows};
  keys.Project(stream, x, args.rule.projections);
  keys.ToCells(stream, args.rule);
  ClusterRows({.sign =
                   [&](std::int64_t first, std::int64_t count, std::uint64_t* signatures) {
                     for (std::int64_t i = 0; i < count; ++i) signatures[i] = keys.Signature(first + i);
                   },
               .equal = [&](std::int64_t row, std::int64_t other) { return keys.Equal(row, other) || rows.SameBits(row, other); }},
              args.map, static_cast<char*>(args.workspace) + CellBytes(args.rule, x.dtype, x.rows), pool);
}

}  // namespace lycia::cpu

namespace lycia {

std::int64_t BuildIndexMapBytes(const ReuseRule& rule, DType dtype, std::int64_t rows) {
  return CellBytes(rule, dtype, rows) + std::max(cpu::ClusterRowsBytes(rows), cuda::ClusterWorkspaceBytes(rows));
}

}  // namespace lycia
