// Work on clusters, shared among threads.
#ifndef LYCIA_KERNELS_REUSE_CLUSTER_LOOP_H_
#define LYCIA_KERNELS_REUSE_CLUSTER_LOOP_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/reuse/index_map.h"

namespace lycia::cpu {

// body(first, last) on the clusters of each thread, cut where their members are.
template <typename Body>
void ForEachClusters(Stream& stream, const IndexMap& map, std::int64_t bytes_each, const Body& body) {
  const std::int32_t clusters = *map.size;
  const auto cluster_of = [&](std::int64_t member) {
    return std::lower_bound(map.offsets, map.offsets + clusters, static_cast<std::int32_t>(member)) - map.offsets;
  };
  ForEachPart(stream, {.count = map.extent, .bytes_each = bytes_each},
              [&](std::int64_t begin, std::int64_t end, int) { body(cluster_of(begin), cluster_of(end)); });
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_REUSE_CLUSTER_LOOP_H_
