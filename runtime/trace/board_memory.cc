#include "runtime/trace/board_memory.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstring>

namespace lycia {
namespace {

// A write takes well under a microsecond, unless its thread loses the processor, or is stopped, in the middle.
constexpr std::int64_t kReadNs = 20'000'000;

void Begin(AtomicRow& row) { row.sequence.store(row.sequence.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
void End(AtomicRow& row) { row.sequence.store(row.sequence.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

}  // namespace

std::int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

// Stores release and loads acquire, so that the odd sequence number is seen before any new word, and the words before the next number.
template <std::size_t kWords>
void AtomicText<kWords>::Store(std::string_view text) {
  char bytes[8 * kWords] = {};
  std::memcpy(bytes, text.data(), std::min(text.size(), sizeof bytes - 1));
  for (std::size_t i = 0; i < kWords; ++i) {
    std::uint64_t word;
    std::memcpy(&word, bytes + 8 * i, 8);
    words[i].store(word, std::memory_order_release);
  }
}

template <std::size_t kWords>
std::string AtomicText<kWords>::Load() const {
  char bytes[8 * kWords + 1] = {};
  for (std::size_t i = 0; i < kWords; ++i) {
    const std::uint64_t word = words[i].load(std::memory_order_acquire);
    std::memcpy(bytes + 8 * i, &word, 8);
  }
  return bytes;
}

template struct AtomicText<4>;
template struct AtomicText<8>;

void StoreInstruction(AtomicRow& row, std::string_view instruction, std::int64_t step, std::int64_t now_ns) {
  Begin(row);
  row.instruction.Store(instruction);
  row.step.store(step, std::memory_order_release);
  row.instruction_since_ns.store(now_ns, std::memory_order_release);
  row.wait_seen_ns.store(0, std::memory_order_release);
  End(row);
}

RowCopy ReadRow(const AtomicRow& row) {
  RowCopy copy;
  for (const std::int64_t start = MonotonicNs();; sched_yield()) {
    const std::uint64_t before = row.sequence.load(std::memory_order_acquire);
    copy.instruction = row.instruction.Load();
    copy.step = row.step.load(std::memory_order_acquire);
    copy.instruction_since_ns = row.instruction_since_ns.load(std::memory_order_acquire);
    copy.wait_seen_ns = row.wait_seen_ns.load(std::memory_order_acquire);
    copy.wait_since_ns = row.wait_since_ns.load(std::memory_order_acquire);
    copy.host = row.host.Load();
    copy.whole = before % 2 == 0 && row.sequence.load(std::memory_order_acquire) == before;
    if (copy.whole || MonotonicNs() - start > kReadNs) break;
  }
  copy.heartbeat_ns = row.heartbeat_ns.load(std::memory_order_acquire);
  copy.pid = row.pid.load(std::memory_order_acquire);
  copy.state = static_cast<RankState>(row.state.load(std::memory_order_acquire));
  copy.origin = static_cast<RowOrigin>(row.origin.load(std::memory_order_acquire));
  return copy;
}

void WriteRow(AtomicRow& row, const RowCopy& copy) {
  Begin(row);
  row.instruction.Store(copy.instruction);
  row.step.store(copy.step, std::memory_order_release);
  row.instruction_since_ns.store(copy.instruction_since_ns, std::memory_order_release);
  row.wait_seen_ns.store(copy.wait_seen_ns, std::memory_order_release);
  row.wait_since_ns.store(copy.wait_since_ns, std::memory_order_release);
  row.host.Store(copy.host);
  End(row);
  row.heartbeat_ns.store(copy.heartbeat_ns, std::memory_order_release);
  row.pid.store(copy.pid, std::memory_order_release);
  row.origin.store(static_cast<std::uint32_t>(copy.origin), std::memory_order_release);
  row.state.store(static_cast<std::uint32_t>(copy.state), std::memory_order_release);
}

}  // namespace lycia
