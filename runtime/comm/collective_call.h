// One collective call as plain pointers and element counts, and the two ways of cutting a buffer into parts.
#ifndef LYCIA_RUNTIME_COMM_COLLECTIVE_CALL_H_
#define LYCIA_RUNTIME_COMM_COLLECTIVE_CALL_H_

#include <algorithm>
#include <cstdint>
#include <span>

#include "runtime/comm/communicator.h"

namespace lycia {

struct CollectiveCall {
  Operation operation = Operation::kAllReduce;
  DType dtype = DType::kF32;
  const void* in = nullptr;
  void* out = nullptr;
  std::int64_t elements = 0;              // of the whole buffer: all-gather's out, reduce-scatter's in, all-reduce, broadcast
  std::span<const std::int64_t> offsets = {};  // shards (empty: equal), or what is sent
  std::span<const std::int64_t> receive_offsets = {};
  bool accumulate = false;
  Fold fold = Fold::kSum;
  int root = 0;
};

struct Part {
  std::int64_t offset = 0;
  std::int64_t elements = 0;
};

// Part `rank` of `elements` cut into `size` parts that differ by at most one element, larger ones first.
inline Part BalancedPart(std::int64_t elements, int size, int rank) {
  const std::int64_t least = elements / size, larger = elements % size;
  return {rank * least + std::min<std::int64_t>(rank, larger), least + (rank < larger ? 1 : 0)};
}

// As `offsets` say, or equal parts.
inline Part ShardPart(std::span<const std::int64_t> offsets, std::int64_t elements, int size, int rank) {
  if (offsets.empty()) return {elements / size * rank, elements / size};
  const std::size_t r = static_cast<std::size_t>(rank);
  return {offsets[r], offsets[r + 1] - offsets[r]};
}

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_COLLECTIVE_CALL_H_
