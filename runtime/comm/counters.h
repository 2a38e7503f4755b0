// What a communicator has moved: calls and bytes by operation and by what they were for.
#ifndef LYCIA_RUNTIME_COMM_COUNTERS_H_
#define LYCIA_RUNTIME_COMM_COUNTERS_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace lycia {

enum class Operation : std::uint8_t { kAllGather, kReduceScatter, kAllReduce, kBroadcast, kAllToAllV, kSend, kCount };
std::string_view Name(Operation operation);

// What the bytes are for; counters are kept by (operation, tag).
enum class Tag : std::uint8_t {
  kSetup,
  kActivation,
  kGradient,
  kWeight,
  kOptimizer,
  kDecide,
  kMetrics,
  kCheckpoint,
  kTest,
  kNorm,    // statistics of rows, on a tensor grid
  kVector,  // biases and norm vectors, on a tensor grid
  kLoss,    // cross entropy of a vocabulary in parts
  kCount,
};
std::string_view Name(Tag tag);

// Logical traffic of this rank, exact and independent of the wire (docs/tensor_grid.md), for q ranks: all-gather what others' shards hold,
// reduce-scatter (q-1) * own shard, all-reduce 2 (q-1)/q * buffer (parts differ by at most one element), broadcast the buffer once per
// non-root rank (counted where it is received), all-to-all what goes to other ranks, send its payload.
struct Counter {
  std::int64_t calls = 0;
  std::int64_t bytes = 0;
  bool operator==(const Counter&) const = default;
};
struct Counters {
  std::array<std::array<Counter, static_cast<std::size_t>(Tag::kCount)>, static_cast<std::size_t>(Operation::kCount)> of{};
  const Counter& at(Operation operation, Tag tag) const { return of[static_cast<std::size_t>(operation)][static_cast<std::size_t>(tag)]; }
  Counter total() const;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_COUNTERS_H_
