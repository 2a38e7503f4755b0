// The order in which threads that share a key head add to its keys: that of one thread, so that the bits are those of one thread.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_TURNS_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_TURNS_H_

#include <atomic>
#include <cstdint>

#include "kernels/cpu/vector.h"

namespace lycia::cpu {

// How far a tile of queries has come. Tiles of a key head are counted in the order of the sums; a thread takes the next one when it has
// left its own. Each follows the one before through the keys: it adds to a tile of keys when that one has, and leaves after it.
//
// As many places as threads do, tile t at t % threads: all tiles between one that has not left and the last taken are in a thread's hands.
// A place only grows, so whoever finds a later tile in it knows that the one before has left.
class KeyTurns {
 public:
  struct alignas(kCacheLine) Place {
    std::atomic<std::uint64_t> reached{0};
  };

  KeyTurns() = default;  // of one thread alone
  KeyTurns(Place* places, std::int64_t threads, std::int64_t tile)
      : mine_(&places[tile % threads].reached),
        before_(tile == 0 ? nullptr : &places[(tile - 1) % threads].reached),
        tile_(static_cast<std::uint64_t>(tile)) {}

  // Before and after adding to the tile of keys that begins at `key`; keys ascend.
  void Await(std::int64_t key) const { Wait(static_cast<std::uint64_t>(key) + 1); }
  void Pass(std::int64_t key) const { Reach(static_cast<std::uint64_t>(key) + 1); }
  // After the last.
  void Leave() const {
    Wait(kEnd);
    Reach(kEnd);
  }

 private:
  static constexpr int kKeyBits = 40;
  static constexpr std::uint64_t kEnd = (std::uint64_t{1} << kKeyBits) - 1;

  void Wait(std::uint64_t key) const {
    const std::uint64_t wanted = (tile_ << kKeyBits) + key;
    if (before_ != nullptr && before_->load(std::memory_order_acquire) < wanted) WaitFor(wanted);
  }
  void WaitFor(std::uint64_t wanted) const;
  void Reach(std::uint64_t key) const {
    if (mine_ == nullptr) return;
    mine_->store(((tile_ + 1) << kKeyBits) + key, std::memory_order_release);
    mine_->notify_all();
  }

  std::atomic<std::uint64_t>* mine_ = nullptr;
  std::atomic<std::uint64_t>* before_ = nullptr;
  std::uint64_t tile_ = 0;
};

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_TURNS_H_
