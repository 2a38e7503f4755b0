// Session: what a rank has before it knows what to train: its place in the world, the board that all ranks show their work on, and the
// watchdog that turns a hang into an error. The same for ranks as threads and as processes, with MPI and without.
#ifndef LYCIA_LAUNCH_SESSION_H_
#define LYCIA_LAUNCH_SESSION_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "launch/launcher.h"
#include "parallel/pipeline/executor.h"
#include "runtime/comm/communicator.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/trace/board.h"
#include "runtime/trace/spans.h"
#include "runtime/trace/watchdog.h"

namespace lycia {

// Over what ranks move tensors. kAuto: threads as threads do; processes on CPUs over what started them, MPI or TCP; on GPUs over NCCL. With
// kMpi and kTcp processes on GPUs send through page-locked memory. kNccl on threads: each needs a GPU of its own.
enum class Transport : std::uint8_t { kAuto, kMpi, kNccl, kTcp };

struct SessionOptions {
  std::string command = "lycia";  // stands before messages
  Launcher launcher;              // how this process was started
  int thread_ranks = 1;           // of a process that was started alone
  double deadline_seconds = 60;   // of the watchdog; 0: off
  std::string board_address;      // between hosts; "": found out
  bool cuda = false;              // ranks on GPUs: those of a host take its GPUs in turn
  Transport transport = Transport::kAuto;
  std::chrono::milliseconds start_patience{300'000};  // of processes for one another, until their world is open
  nccl::Options nccl;                                 // device and setup_patience are filled in
};

struct Session {
  Communicator* world = nullptr;
  Board* board = nullptr;
  Watchdog* watchdog = nullptr;
  bool threads = false;  // ranks share this process
  int gpu = 0;           // of this rank, with SessionOptions::cuda

  int rank() const { return world->rank(); }
  int ranks() const { return world->size(); }
};

// Runs `body` on every rank of this process. What a user must read is printed by one rank: an InvalidArgument that all ranks agree on
// (AgreeOnInput, returned as it is) by rank 0, any other failure by the first rank that it happens on, which then ends the whole job. The
// status returned has an empty message where it has been printed, by this rank or another. With `cuda` operands of the world may lie on the
// rank's GPU. InvalidArgument: a transport that this build or the launcher does not have, or no GPU. DeadlineExceeded names processes that
// did not come.
Status RunRanks(const SessionOptions& options, const std::function<Status(Session&)>& body);

// Collective. OK when every rank's status is; otherwise InvalidArgument everywhere, carrying the message of the first rank that failed.
// For checks of the user's input, so that all ranks end together.
Status AgreeOnInput(Communicator& world, const Status& mine);

// Shows every instruction on the board and, while the recorder is enabled, records it as a span.
class SessionObserver final : public StepObserver {
 public:
  SessionObserver(Session& session, std::int64_t span_capacity) : session_(&session), recorder_(session.world->rank(), span_capacity) {}
  // Of the ranks that pass micro-batches to each other: messages of different replicas, and of different ranks of a grid, are different.
  void set_replica(int replica) { replica_ = replica; }
  void StartStep(std::int64_t step) {  // from 1
    step_ = step;
    next_ = 0;
  }
  SpanRecorder& recorder() { return recorder_; }
  void Begin(const schedule::Instruction& instruction, const std::string& text) override;
  void End(const schedule::Instruction& instruction) override;

 private:
  Session* session_;
  SpanRecorder recorder_;
  std::int64_t step_ = 0;
  std::int32_t next_ = 0;
  std::int64_t open_ = -1;
  int replica_ = 0;
};

// Collective: every rank's spans at rank 0 (elsewhere empty).
StatusOr<std::vector<RankSpans>> GatherSpans(Communicator& world, const RankSpans& mine, WaitGuard* guard);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_SESSION_H_
