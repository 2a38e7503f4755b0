#include "kernels/attention/attention_turns.h"

namespace lycia::cpu {
namespace {

// As long as a tile of queries and keys takes, about: the one before is seldom further away, and a thread that sleeps may find its core
// taken when it wakes.
constexpr int kSpins = 4000;

}  // namespace

void KeyTurns::WaitFor(std::uint64_t wanted) const {
  for (int i = 0; i < kSpins; ++i) {
    if (before_->load(std::memory_order_acquire) >= wanted) return;
    __builtin_ia32_pause();
  }
  for (std::uint64_t reached = before_->load(std::memory_order_acquire); reached < wanted;) {
    before_->wait(reached, std::memory_order_acquire);
    reached = before_->load(std::memory_order_acquire);
  }
}

}  // namespace lycia::cpu
