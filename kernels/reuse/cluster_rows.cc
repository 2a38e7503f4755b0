// Every thread clusters a run of rows by itself, in a table of its own; then the runs' clusters are looked up, run after run, in the table
// of all before. Rows are compared while they are still near, and each once: nothing is read a second time but by a match.
#include "kernels/reuse/cluster_rows.h"

#include <algorithm>
#include <cstring>

namespace lycia::cpu {
namespace {

constexpr std::int64_t kMostParts = 64;
constexpr std::int64_t kLeastRows = 64;   // of a part that is worth a thread
constexpr std::int64_t kRowsAtOnce = 16;  // signed before they are looked up

std::int64_t TableEntries(std::int64_t rows) {
  std::int64_t entries = 4;
  while (entries < 2 * rows) entries *= 2;
  return entries;
}

// Open addressing, at most half full. An entry: half of the signature, and one more than the cluster; 0: none.
class Table {
 public:
  Table(std::uint64_t* entries, std::int64_t rows) : entries_(entries), mask_(static_cast<std::uint64_t>(TableEntries(rows)) - 1) {}
  void Clear() { std::memset(entries_, 0, (mask_ + 1) * sizeof *entries_); }
  // The cluster whose signature it is and for which equal(cluster) holds; -1: none, and `slot` is where it would stand.
  template <typename Equal>
  std::int32_t Find(std::uint64_t signature, const Equal& equal, std::uint64_t& slot) const {
    for (slot = signature & mask_; entries_[slot] != 0; slot = (slot + 1) & mask_) {
      if (entries_[slot] >> 32 != signature >> 32) continue;
      const auto cluster = static_cast<std::int32_t>((entries_[slot] & 0xffffffffu) - 1);
      if (equal(cluster)) return cluster;
    }
    return -1;
  }
  void Fetch(std::uint64_t signature) const { __builtin_prefetch(entries_ + (signature & mask_)); }
  void Put(std::uint64_t slot, std::uint64_t signature, std::int32_t cluster) {
    entries_[slot] = (signature >> 32 << 32) | (static_cast<std::uint32_t>(cluster) + 1);
  }
  void Insert(std::uint64_t signature, std::int32_t cluster) {
    std::uint64_t slot = signature & mask_;
    while (entries_[slot] != 0) slot = (slot + 1) & mask_;
    Put(slot, signature, cluster);
  }

 private:
  std::uint64_t* entries_;
  std::uint64_t mask_;
};

struct Part {
  std::int64_t begin = 0, end = 0;  // rows
  std::int32_t clusters = 0;
};

// What stands in the workspace. Arrays of rows are written by parts: cluster i of a part at its first row + i.
struct Scratch {
  std::uint64_t* tables;
  std::uint64_t* signatures;  // [extent], of clusters
  std::int32_t* first_rows;   // [extent], of clusters
  std::int32_t* numbers;      // [extent]: what a part's cluster is called in the end
};

Part PartOf(std::int64_t rows, std::int64_t part, std::int64_t parts) { return {rows * part / parts, rows * (part + 1) / parts}; }

// Clusters of one part, numbered within it; the first part's are those of the map.
std::int32_t ClusterPart(const RowKeys& keys, const IndexMap& map, const Part& part, Table table, const Scratch& scratch) {
  std::int32_t* rows = scratch.first_rows + part.begin;
  std::int32_t clusters = 0;
  for (std::int64_t first = part.begin; first < part.end; first += kRowsAtOnce) {
    std::uint64_t signatures[kRowsAtOnce];
    const std::int64_t count = std::min(kRowsAtOnce, part.end - first);
    keys.sign(first, count, signatures);
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint64_t slot = 0;
      std::int32_t id = table.Find(
          signatures[i], [&](std::int32_t cluster) { return keys.equal(first + i, rows[cluster]); }, slot);
      if (id < 0) {
        id = clusters++;
        rows[id] = static_cast<std::int32_t>(first + i);
        scratch.signatures[part.begin + id] = signatures[i];
        table.Put(slot, signatures[i], id);
      }
      map.ids[first + i] = id;
    }
  }
  return clusters;
}

// Counts and members: a counting sort, stable in the rows.
void SortMembers(const IndexMap& map) {
  const std::int32_t clusters = *map.size;
  std::fill_n(map.counts, clusters, 0);
  for (std::int64_t m = 0; m < map.extent; ++m) ++map.counts[map.ids[m]];
  std::int32_t at = 0;
  for (std::int32_t j = 0; j < clusters; ++j) {
    map.offsets[j] = at;
    at += map.counts[j];
    map.counts[j] = 0;
  }
  map.offsets[clusters] = at;
  for (std::int64_t m = 0; m < map.extent; ++m) {
    const std::int32_t j = map.ids[m];
    map.members[map.offsets[j] + map.counts[j]++] = static_cast<std::int32_t>(m);
  }
}

}  // namespace

std::int64_t ClusterRowsBytes(std::int64_t extent) {
  // A table has less than four entries for each of its rows, but four at least.
  const std::int64_t entries = 8 * extent + 4 * (kMostParts + 1);
  return (entries * 8 + extent * (8 + 4 + 4) + 63) / 64 * 64;
}

void ClusterRows(const RowKeys& keys, const IndexMap& map, void* workspace, ThreadPool& pool) {
  const std::int64_t extent = map.extent;
  const std::int64_t parts = std::clamp<std::int64_t>(std::min<std::int64_t>(pool.threads(), extent / kLeastRows), 1, kMostParts);
  Scratch scratch;
  scratch.tables = static_cast<std::uint64_t*>(workspace);
  scratch.signatures = scratch.tables + 8 * extent + 4 * (kMostParts + 1);
  scratch.first_rows = reinterpret_cast<std::int32_t*>(scratch.signatures + extent);
  scratch.numbers = scratch.first_rows + extent;
  Part part[kMostParts];
  for (std::int64_t p = 0; p < parts; ++p) part[p] = PartOf(extent, p, parts);
  // The first part's table is large enough for all rows; the others follow it.
  const auto table_of = [&](std::int64_t p) {
    if (p == 0) return Table(scratch.tables, extent);
    std::uint64_t* at = scratch.tables + TableEntries(extent);
    for (std::int64_t q = 1; q < p; ++q) at += TableEntries(part[q].end - part[q].begin);
    return Table(at, part[p].end - part[p].begin);
  };
  const auto for_each_part = [&](const auto& body) {
    if (parts == 1) return body(0);
    pool.Run([&](int thread) {
      if (thread < parts) body(thread);
    });
  };
  for_each_part([&](std::int64_t p) {
    Table table = table_of(p);
    table.Clear();
    part[p].clusters = ClusterPart(keys, map, part[p], table, scratch);
  });
  Table all = table_of(0);
  std::int32_t clusters = part[0].clusters;
  std::copy_n(scratch.first_rows, clusters, map.representatives);
  for (std::int64_t p = 1; p < parts; ++p) {
    const std::int64_t begin = part[p].begin;
    for_each_part([&](std::int64_t thread) {
      const Part some = PartOf(part[p].clusters, thread, parts);
      for (std::int64_t i = begin + some.begin; i < begin + some.end; ++i) {
        // What another core has written is far away.
        if (i + kRowsAtOnce < begin + some.end) all.Fetch(scratch.signatures[i + kRowsAtOnce]);
        std::uint64_t slot = 0;
        const auto equal = [&](std::int32_t cluster) { return keys.equal(scratch.first_rows[i], map.representatives[cluster]); };
        scratch.numbers[i] = all.Find(scratch.signatures[i], equal, slot);
      }
    });
    for (std::int64_t i = begin; i < begin + part[p].clusters; ++i) {
      if (scratch.numbers[i] >= 0) continue;
      scratch.numbers[i] = clusters;
      map.representatives[clusters] = scratch.first_rows[i];
      if (p + 1 < parts) all.Insert(scratch.signatures[i], clusters);
      ++clusters;
    }
  }
  for_each_part([&](std::int64_t p) {
    if (p == 0) return;
    for (std::int64_t m = part[p].begin; m < part[p].end; ++m) map.ids[m] = scratch.numbers[part[p].begin + map.ids[m]];
  });
  *map.size = clusters;
  SortMembers(map);
}

}  // namespace lycia::cpu
