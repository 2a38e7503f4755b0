// Rows with equal keys become clusters. What a key is, is the caller's affair: bits of a row, of a patch, quantized numbers, projections.
#ifndef LYCIA_KERNELS_REUSE_CLUSTER_ROWS_H_
#define LYCIA_KERNELS_REUSE_CLUSTER_ROWS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "kernels/reuse/index_map.h"
#include "runtime/device/thread_pool.h"

namespace lycia::cpu {

// Equality is an equivalence, and equal rows have equal signatures. Both are called from all threads of the pool.
struct RowKeys {
  // signatures[i] = that of row first + i, i < count.
  absl::FunctionRef<void(std::int64_t first, std::int64_t count, std::uint64_t* signatures)> sign;
  absl::FunctionRef<bool(std::int64_t row, std::int64_t other)> equal;
};

// Scratch for maps of `extent` rows, 64-byte aligned.
std::int64_t ClusterRowsBytes(std::int64_t extent);

// Fills a partition of rows: clusters are numbered by their first rows, whatever the number of threads.
void ClusterRows(const RowKeys& keys, const IndexMap& map, void* workspace, ThreadPool& pool);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_REUSE_CLUSTER_ROWS_H_
