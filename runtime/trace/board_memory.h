// The rows of a board as they lie in plain or shared memory. Only for board*.cc.
//
// Every field is a lock-free atomic, so that processes and threads share it without locks and ThreadSanitizer sees no race. A row has one
// writer: its rank's thread, the heartbeat of its process, or the link that received it from another host. Text is guarded by a sequence
// number (odd while it changes); times are of this host's monotonic clock.
#ifndef LYCIA_RUNTIME_TRACE_BOARD_MEMORY_H_
#define LYCIA_RUNTIME_TRACE_BOARD_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/trace/board.h"

namespace lycia {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "the board is shared between processes");

std::int64_t MonotonicNs();

// Up to 8 * kWords - 1 bytes of text, in atomic words.
template <std::size_t kWords>
struct AtomicText {
  std::atomic<std::uint64_t> words[kWords];

  void Store(std::string_view text);
  std::string Load() const;
};
using InstructionText = AtomicText<(Board::kInstructionBytes + 1) / 8>;
using HostText = AtomicText<4>;

enum class RowOrigin : std::uint32_t { kNobody, kThisHost, kOtherHost };

struct alignas(64) AtomicRow {
  std::atomic<std::uint64_t> sequence;
  InstructionText instruction;
  std::atomic<std::int64_t> step;
  std::atomic<std::int64_t> instruction_since_ns;
  std::atomic<std::int64_t> wait_since_ns;
  std::atomic<std::int64_t> wait_seen_ns;  // of the last Waiting(); 0: none since the instruction began
  std::atomic<std::int64_t> heartbeat_ns;
  std::atomic<std::int64_t> pid;
  HostText host;
  std::atomic<std::uint32_t> state;   // RankState
  std::atomic<std::uint32_t> origin;  // RowOrigin
};

// The first page of the memory; `rows` follow it.
struct BoardMemory {
  static constexpr std::uint64_t kMagic = 0x4C59434941424F31;  // "LYCIABO1"
  static constexpr std::uint32_t kNoHub = 0, kHub = 1, kLinked = 2, kHubLost = 3;

  std::atomic<std::uint64_t> magic;
  std::atomic<std::int64_t> ranks;
  std::atomic<std::int64_t> attached;        // processes so far
  std::atomic<std::int64_t> reporter;        // 1 + rank that claimed the report on this host; 0: none
  std::atomic<std::int64_t> job_reporter;    // 1 + rank that may report, as decided by the hub; 0: not decided
  std::atomic<std::uint32_t> reported;       // 1: the report has been printed
  std::atomic<std::uint32_t> link;           // kNoHub: one host only; kHubLost: it was linked, and the hub does not answer any more
  alignas(64) AtomicRow rows[1];             // `ranks` of them

  static std::size_t Bytes(int ranks) { return sizeof(BoardMemory) + static_cast<std::size_t>(ranks - 1) * sizeof(AtomicRow); }
};

// One row at one instant.
struct RowCopy {
  std::string instruction, host;
  std::int64_t step = 0, instruction_since_ns = 0, wait_since_ns = 0, wait_seen_ns = 0, heartbeat_ns = 0, pid = 0;
  RankState state = RankState::kAbsent;
  RowOrigin origin = RowOrigin::kNobody;
  bool whole = true;  // false: its writer was stopped while it wrote; text, step and times may be of two instructions
};
RowCopy ReadRow(const AtomicRow& row);
// By the row's one writer.
void WriteRow(AtomicRow& row, const RowCopy& copy);
void StoreInstruction(AtomicRow& row, std::string_view instruction, std::int64_t step, std::int64_t now_ns);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_TRACE_BOARD_MEMORY_H_
