// Which rows, columns, depths or blocks of a product are computed, and where what is computed belongs: the one mechanism of every feature
// that skips work (computation reuse, skimmed tokens, dropped units, masked blocks). What a map says is data in the device's memory, its
// size included: no kernel that takes one needs the host to read it.
#ifndef LYCIA_KERNELS_REUSE_INDEX_MAP_H_
#define LYCIA_KERNELS_REUSE_INDEX_MAP_H_

#include <cstdint>
#include <string>

#include "runtime/core/status.h"
#include "runtime/device/device.h"

namespace lycia {

// What is mapped of c [M, N] = op(a) [M, K] op(b) [K, N]: its rows, its columns, its depth, or tiles of c in row-major order.
enum class MapDim : std::uint8_t { kM, kN, kK, kBlock };
// kPartition: many indices share one result (clusters). kSubset: some indices are kept, the others have none. kBlockMask: a subset of
// blocks.
enum class MapKind : std::uint8_t { kPartition, kSubset, kBlockMask };

// A view; U stands for *size, the number of clusters, or of what is kept.
struct IndexMap {
  MapDim dim = MapDim::kM;
  MapKind kind = MapKind::kPartition;
  std::int64_t extent = 0;                  // indices that the map speaks of; U is never more
  std::int32_t* size = nullptr;             // [1]: U
  std::int32_t* ids = nullptr;              // [extent]: the cluster of an index; its place among the kept, -1 where it is dropped
  std::int32_t* representatives = nullptr;  // [U of extent]: the first index of a cluster; what is kept. Ascending
  std::int32_t* counts = nullptr;           // [U of extent]: indices of a cluster; 1
  std::int32_t* members = nullptr;          // [extent]: indices cluster after cluster, ascending within each; what is kept
  std::int32_t* offsets = nullptr;          // [U + 1 of extent + 1]: where a cluster's members begin

  std::string ToString() const;  // "a partition of 4096 rows (M)"
};

// Memory of a map, and the map in it: 64-byte aligned memory of the device, of which nothing is read before it is built.
std::int64_t IndexMapBytes(std::int64_t extent);
IndexMap IndexMapIn(void* memory, MapDim dim, MapKind kind, std::int64_t extent);

// Unavailable where a kernel takes partitions of rows only; the message names the map, the kernel and what to do.
Status CheckPartitionOfRows(const IndexMap& map, const char* kernel);
// The same, reported to the stream. True: go on.
bool IsPartitionOfRows(Stream& stream, const IndexMap& map, const char* kernel);

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_INDEX_MAP_H_
