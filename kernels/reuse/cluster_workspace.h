// What clustering rows on CUDA keeps in its workspace, and how rows are then sorted by cluster: pure host functions.
#ifndef LYCIA_KERNELS_REUSE_CLUSTER_WORKSPACE_H_
#define LYCIA_KERNELS_REUSE_CLUSTER_WORKSPACE_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

namespace lycia::cuda {

// Rows are sorted by kDigitBits bits of their cluster's number at a time, stable, each warp a run of the order before.
inline constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
inline constexpr int kSortRun = 512;

constexpr std::int64_t SortRuns(std::int64_t rows) { return (rows + kSortRun - 1) / kSortRun; }
constexpr int SortPasses(std::int64_t rows) {
  const int bits = std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(1, rows) - 1));
  return std::max(1, (bits + kDigitBits - 1) / kDigitBits);
}

// Slots are counted in 32 bits.
inline constexpr std::int64_t kMostClusteredRows = std::int64_t{1} << 29;

// Open addressing, at most half full.
constexpr std::int64_t TableSlots(std::int64_t rows) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(1, 2 * rows))));
}

struct ClusterWorkspace {
  unsigned long long* table = nullptr;       // [TableSlots]: signatures; 0: free
  std::int32_t* lowest = nullptr;            // [TableSlots]: rows less the lowest row of the signature
  unsigned long long* signatures = nullptr;  // [rows]
  std::int32_t* slots = nullptr;             // [rows], of the table
  std::int32_t* firsts = nullptr;            // [rows]: the lowest row that is alike
  std::int32_t* order = nullptr;             // [2, rows]: rows between passes
  std::int32_t* digits = nullptr;            // [kDigits, SortRuns]
  std::int32_t* sums = nullptr;              // of scans
  std::int64_t bytes = 0;                    // in all
  std::int64_t table_bytes = 0;              // of table and lowest, which begin as zeros
};

inline ClusterWorkspace ClusterWorkspaceIn(void* memory, std::int64_t rows) {
  constexpr std::int64_t kLine = 64, kScanTile = 1024;
  ClusterWorkspace w;
  char* const begin = static_cast<char*>(memory);
  const auto take = [&](auto*& array, std::int64_t count) {
    if (begin != nullptr) array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(begin + w.bytes);
    w.bytes += (count * static_cast<std::int64_t>(sizeof(*array)) + kLine - 1) / kLine * kLine;
  };
  take(w.table, TableSlots(rows));
  take(w.lowest, TableSlots(rows));
  w.table_bytes = w.bytes;
  take(w.signatures, rows);
  take(w.slots, rows);
  take(w.firsts, rows);
  take(w.order, 2 * rows);
  take(w.digits, kDigits * SortRuns(rows));
  take(w.sums, std::max(rows, kDigits * SortRuns(rows)) / kScanTile + 1);
  return w;
}
inline std::int64_t ClusterWorkspaceBytes(std::int64_t rows) { return ClusterWorkspaceIn(nullptr, rows).bytes; }

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_CLUSTER_WORKSPACE_H_
