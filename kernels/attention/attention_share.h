// How the threads of a stream share the key heads of an attention call (a key head: with all query heads that read it).
//
// 1. Each thread takes whole key heads, equally many: no thread waits, and what a head packs stays in its core's caches.
// 2. Those left over, fewer than threads, are shared: all threads pack parts of each, then take tiles of queries one by one, whichever is
//    next. Forward, the tiles that see most keys come first, so that the last ones are short. Backward, threads add to the keys in turn
//    (attention_turns.h).
// 3. Heads too long for a thread's workspace stand in the call's scratch and are shared by all threads, one after another.
//
// Five heads on two threads: two each, then the tiles of the fifth. The bits are the same for any number of threads.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_SHARE_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_SHARE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <new>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_tile.h"
#include "kernels/attention/attention_turns.h"
#include "kernels/cpu/parallel.h"

namespace lycia::cpu {

// Fewer pairs of queries and keys than this are not worth the forks and joins of sharing a head.
inline constexpr std::int64_t kLeastSharedPairs = std::int64_t{256} * 256;

struct KeyHead {
  std::int64_t b = 0, g = 0;
  void* memory = nullptr;  // head_bytes of the work
  bool finite = true;      // what IsFinite said of all parts
};

// One of `parts` of what a head has to pack or to write.
struct Part {
  std::int64_t index = 0, parts = 1;
  std::int64_t Begin(std::int64_t count) const { return count * index / parts; }
  std::int64_t End(std::int64_t count) const { return count * (index + 1) / parts; }
};

// Work has
//   problem; head_bytes, tile_bytes: memory of a head and of a thread, multiples of kCacheLine;
//   kAddsToKeys: whether Tile takes turns;
//   bool IsFinite(head, part), Begin(head, part), Tile(head, h, query tile, tile memory, turns), End(head, part), in this order.
template <typename Work>
void AttendAlone(const Work& work, KeyHead head, void* tile_memory) {
  const std::int64_t group = work.problem.heads / work.problem.kv_heads;
  head.finite = work.IsFinite(head, Part());
  work.Begin(head, Part());
  ForEachQueryTile(work.problem, [&](const QueryTile& q) {
    for (std::int64_t h = head.g * group; h < (head.g + 1) * group; ++h) work.Tile(head, h, q, tile_memory, KeyTurns());
  });
  work.End(head, Part());
}

// At the front of a workspace: what threads know of a head that they share.
struct SharedHead {
  KeyHead head;
  std::atomic<bool> finite{true};
  KeyTurns::Place* places = nullptr;  // [threads]

  static std::int64_t Bytes(std::int64_t threads) {
    static_assert(sizeof(SharedHead) <= kCacheLine && sizeof(KeyTurns::Place) == kCacheLine);
    return (1 + threads) * kCacheLine;
  }
  static SharedHead& Make(void* memory, std::int64_t threads) {
    auto* shared = new (memory) SharedHead;
    shared->places = reinterpret_cast<KeyTurns::Place*>(static_cast<char*>(memory) + kCacheLine);
    for (std::int64_t i = 0; i < threads; ++i) new (shared->places + i) KeyTurns::Place;
    return *shared;
  }
};

// Key heads [first, first + count) by all threads, count <= threads. Head i stands in the workspace of thread i; one alone in `memory`,
// unless null.
template <typename Work>
void AttendTogether(ThreadPool& pool, const Work& work, std::int64_t first, std::int64_t count, void* memory) {
  const AttentionProblem& p = work.problem;
  const std::int64_t threads = pool.threads(), group = p.heads / p.kv_heads, shared_bytes = SharedHead::Bytes(threads);
  const auto workspace = [&](std::int64_t i) { return pool.workspace(static_cast<int>(i)).data(); };
  const auto shared = [&](std::int64_t i) -> SharedHead& { return *reinterpret_cast<SharedHead*>(workspace(i)); };
  for (std::int64_t i = 0; i < count; ++i) {
    SharedHead& s = SharedHead::Make(workspace(i), threads);
    s.head = {.b = (first + i) / p.kv_heads, .g = (first + i) % p.kv_heads, .memory = memory};
    if (memory == nullptr) s.head.memory = workspace(i) + shared_bytes + work.tile_bytes;
  }
  const auto for_each_part = [&](auto body) {
    pool.Run([&](int thread) {
      for (std::int64_t i = 0; i < count; ++i) body(shared(i), Part{thread, threads});
    });
  };

  for_each_part([&](SharedHead& s, const Part& part) {
    if (!work.IsFinite(s.head, part)) s.finite.store(false, std::memory_order_relaxed);
  });
  for (std::int64_t i = 0; i < count; ++i) shared(i).head.finite = shared(i).finite.load(std::memory_order_relaxed);
  for_each_part([&](const SharedHead& s, const Part& part) { work.Begin(s.head, part); });

  std::int64_t tiles = 0;
  ForEachQueryTile(p, [&](const QueryTile&) { ++tiles; });
  const auto tile_at = [&](std::int64_t wanted) {
    QueryTile found{};
    std::int64_t at = 0;
    ForEachQueryTile(p, [&](const QueryTile& q) {
      if (at++ == wanted) found = q;
    });
    return found;
  };
  std::atomic<std::int64_t> next{0};
  pool.Run([&](int thread) {
    void* tile_memory = workspace(thread) + shared_bytes;
    const auto take = [&] { return next.fetch_add(1, std::memory_order_relaxed); };
    for (std::int64_t u = take(); u < count * group * tiles; u = take()) {  // heads in turn: threads on different heads do not wait
      const SharedHead& s = shared(u % count);
      const std::int64_t step = u / count, tile = step / group, h = s.head.g * group + step % group;
      if constexpr (Work::kAddsToKeys) {
        const KeyTurns turns(s.places, threads, step);
        work.Tile(s.head, h, tile_at(tile), tile_memory, turns);
        turns.Leave();
      } else {
        work.Tile(s.head, h, tile_at(tiles - 1 - tile), tile_memory, KeyTurns());
      }
    }
  });
  for_each_part([&](const SharedHead& s, const Part& part) { work.End(s.head, part); });
}

template <typename Work>
void ForEachKeyHead(Stream& stream, const Work& work, const Tensor& scratch) {
  const AttentionProblem& p = work.problem;
  ThreadPool& pool = *stream.pool();
  const std::int64_t threads = pool.threads(), heads = p.samples * p.kv_heads, pairs = p.queries * p.keys * (p.heads / p.kv_heads);
  std::int64_t workspace = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < threads; ++i) workspace = std::min(workspace, static_cast<std::int64_t>(pool.workspace(i).size()));
  const std::int64_t shared_bytes = SharedHead::Bytes(threads) + work.tile_bytes;
  const bool can_share = threads > 1 && workspace >= shared_bytes, fits = can_share && workspace >= shared_bytes + work.head_bytes;
  const bool share = can_share && (!fits || pairs >= kLeastSharedPairs);

  const std::int64_t whole = !share ? heads : fits ? heads - heads % threads : 0;
  // A measure of a head's work: more than the bytes it touches. 0: the caller works alone.
  const std::int64_t bytes_each = fits ? pairs * 8 : 0;
  ForEachPart(stream, {.count = whole, .bytes_each = bytes_each}, [&](std::int64_t begin, std::int64_t end, int thread) {
    char* memory = thread == 0 ? static_cast<char*>(scratch.data) : pool.workspace(thread).data();
    for (std::int64_t u = begin; u < end; ++u) {
      AttendAlone(work, {.b = u / p.kv_heads, .g = u % p.kv_heads, .memory = memory}, memory + work.head_bytes);
    }
  });
  const std::int64_t together = fits ? heads - whole : 1;
  for (std::int64_t u = whole; u < heads; u += together) AttendTogether(pool, work, u, together, fits ? nullptr : scratch.data);
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_SHARE_H_
