// How the Hopper attention is cut and launched: pure functions, tested without a GPU; the kernels call the same ones.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_CUDA_LAUNCH_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_CUDA_LAUNCH_H_

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/cuda/tensor_map.h"
#include "runtime/core/status.h"

namespace lycia::cuda {

// Rows of an accumulator tile of one warp group.
inline constexpr int kGroupRows = 64;
// What a block may ask for on compute capability 9.0: 228 KiB of the multiprocessor less 1 KiB that the system keeps.
inline constexpr int kMaxSharedBytes = 227 * 1024;

// The tiling of one kernel instance, in elements.
struct ForwardTiling {
  int head_dim = 128;
  int consumers = 2;  // warp groups of 64 queries
  int keys = 128;     // of one step
  int stages = 2;     // key and value tiles in flight

  constexpr int queries() const { return consumers * kGroupRows; }
  constexpr int threads() const { return (consumers + 1) * 128; }
  // In this order in shared memory: q, out, keys, values, barriers.
  constexpr int query_bytes() const { return queries() * head_dim * 2; }
  constexpr int key_bytes() const { return keys * head_dim * 2; }
  constexpr int out_at() const { return query_bytes(); }
  constexpr int keys_at() const { return 2 * query_bytes(); }
  constexpr int values_at() const { return keys_at() + stages * key_bytes(); }
  constexpr int barriers_at() const { return values_at() + stages * key_bytes(); }
  constexpr int shared_bytes() const { return barriers_at() + 256; }
  bool operator==(const ForwardTiling&) const = default;
};

// The instances that are compiled.
inline constexpr ForwardTiling kForward64{.head_dim = 64, .consumers = 3, .keys = 128, .stages = 2};
inline constexpr ForwardTiling kForward128{.head_dim = 128, .consumers = 2, .keys = 160, .stages = 2};
inline constexpr ForwardTiling kForward128Causal{.head_dim = 128, .consumers = 2, .keys = 128, .stages = 2};

// Registers of a thread, given out by setmaxnreg. The warp groups share what the block was launched with, 65,536 / threads rounded down to
// a multiple of 8 for each: 168 for two consumers and 128 for three; a group that asks for more than is left waits forever.
constexpr int ProducerRegisters(int consumers) { return consumers == 2 ? 56 : 32; }
constexpr int ConsumerRegisters(int consumers) { return consumers == 2 ? 224 : 160; }

// The number of keys that queries before `end` see: [0, keys) ends there. shift: first_query - first_key.
constexpr int VisibleKeys(int keys, bool causal, int shift, int end) {
  if (!causal) return keys;
  const int seen = end + shift;
  return seen < 0 ? 0 : seen < keys ? seen : keys;
}

struct AttentionTile {
  int query_tile = 0, head = 0;  // head: sample * H + h
  bool operator==(const AttentionTile&) const = default;
};

// The order of tiles: sections of heads whose keys and values stay in the L2 cache together; in a section the last queries first, which see
// most keys under a causal mask, so that short tiles fill the end.
struct TileOrder {
  int query_tiles = 0, heads = 0, section = 1;  // section: heads

  bool operator==(const TileOrder&) const = default;
  constexpr int tiles() const { return query_tiles * heads; }
  constexpr AttentionTile At(int index) const {
    const int first = index / (section * query_tiles) * section;
    const int width = heads - first < section ? heads - first : section;
    const int in_section = index - first * query_tiles;
    return {query_tiles - 1 - in_section / width, first + in_section % width};
  }
};
// l2_bytes: of the device; half of it is planned for.
TileOrder ChooseTileOrder(const AttentionProblem& problem, int tile_queries, std::int64_t l2_bytes);

// nullptr if the Hopper kernels serve the problem on a device of that capability (compute_capability.h), else the reason.
const char* RejectHopper(const AttentionProblem& problem, int capability);
// The same of where a tensor lies: the copy engine wants rows of bf16 at multiples of 16 bytes.
const char* RejectHopperView(const ConstHeadsView& view);

// The instance for a problem that is not rejected.
ForwardTiling ChooseForwardTiling(const AttentionProblem& problem);

// [samples, tokens, heads, head_dim] as the copy engine sees it, a panel of `rows` tokens a box.
TensorMap HeadsMap(const ConstHeadsView& view, std::int64_t samples, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
                   int rows);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_CUDA_LAUNCH_H_
