// Board: every rank shows its current instruction where all others can read it, out of band: the communicator may be what hangs.
//
// Rows live in plain memory (ranks as threads), in shared memory (processes of one host) and, between hosts, are exchanged over TCP
// (board_link.h). Publishing takes a few atomic stores, no lock and no allocation. A helper thread of each process beats for its rows, so a
// process that is stopped or dead is seen as stale; a thread that hangs is seen by the age of its instruction.
#ifndef LYCIA_RUNTIME_TRACE_BOARD_H_
#define LYCIA_RUNTIME_TRACE_BOARD_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

inline constexpr std::int64_t kHeartbeatNs = 100'000'000;
// A rank counts as waiting until this long (of its own process's beats) after its last Waiting(): a blocked wait says so every 20 ms.
inline constexpr std::int64_t kWaitLeaseNs = 1'000'000'000;

enum class RankState : std::uint8_t { kAbsent, kRunning, kLeft };  // not joined yet, joined, left in order

// One row as read; ages are measured by the reader's clock at the time of the snapshot.
struct BoardRow {
  int rank = 0;
  RankState state = RankState::kAbsent;
  std::string host;                     // its first 31 bytes
  bool here = false;                    // its process is one of this host
  std::int64_t pid = 0;
  std::int64_t step = 0;
  std::string instruction;              // what was published last
  bool whole = true;                    // false: the rank was stopped while it published; the instruction may be mixed of two
  std::int64_t instruction_age_ns = 0;  // since it was published
  bool waiting = false;                 // blocked in a wait, or computing
  std::int64_t wait_age_ns = 0;         // since this wait began
  std::int64_t heartbeat_age_ns = 0;    // since its process was last known to run
};

struct BoardOptions {
  int ranks = 1;  // of the job
  // Unique to this run (a random name that all its processes were told); "": plain memory, all ranks are threads of this process.
  std::string job;
  int processes = 1;                   // of the job on this host; the last one to attach unlinks the file
  std::string directory = "/dev/shm";  // where the file lives while processes attach
};

struct BoardMemory;  // the rows: board_memory.h

class Board {
 public:
  static constexpr std::size_t kInstructionBytes = 63;  // longer texts are cut

  // InvalidArgument: options that make no board. Unavailable, with the reason: the memory cannot be had, or is another job's.
  static StatusOr<std::unique_ptr<Board>> Open(const BoardOptions& options);
  ~Board();

  int ranks() const { return ranks_; }

  // A rank of this process takes its row; from now on the heartbeat covers it. Leave: in order, never a culprit again.
  void Join(int rank);
  void Leave(int rank);

  // Called by the rank's own thread. A new instruction starts at each call (also with equal text) and ends a wait.
  void Publish(int rank, std::string_view instruction, std::int64_t step);
  // The rank has been blocked for waited_ns; repeated at least every kWaitLeaseNs / 4 while it lasts (Watchdog does).
  void Waiting(int rank, std::int64_t waited_ns);

  // All rows as of now. Any thread; not in a step (allocates).
  std::vector<BoardRow> Snapshot() const;

  // Who prints the job's one report: the first to ask, on this host or (where linked) in the job; it then calls ReportDone. kOthers:
  // another rank has printed it. kUndecided: not settled, or the other rank is still printing; ask again. A host that has lost the hub
  // reports for itself.
  enum class Claim { kMine, kOthers, kUndecided };
  Claim ClaimReport(int rank);
  void ReportDone();
  bool Reported() const;  // by any rank, as far as is known here

  BoardMemory& memory() { return *memory_; }

 private:
  Board() = default;
  void Beat();

  int ranks_ = 0;
  BoardMemory* memory_ = nullptr;
  std::size_t bytes_ = 0;
  int processes_ = 1;
  std::string path_;  // of the file; empty: plain memory
  std::mutex mutex_;  // guards the following two
  bool stop_ = false;
  std::vector<int> mine_;  // rows that this process beats for
  std::condition_variable wake_;
  std::thread heart_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_TRACE_BOARD_H_
