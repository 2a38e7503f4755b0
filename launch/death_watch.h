// DeathWatch: looks after the other processes of a job from a thread of its own, in set-up and report too, where no wait is under the
// watchdog. The first rank to see it prints. What it finds out:
//   died     a rank of this host whose process is gone: the launcher says at most that one is, and ends the others before their watchdog's
//            deadline.
//   silent   a rank that has not beaten for longer than the deadline, and no watchdog has said so: ends the job.
//   broken   the world has lost a rank, and this one has not noticed (an operation of a GPU waits without end): ends this process.
#ifndef LYCIA_LAUNCH_DEATH_WATCH_H_
#define LYCIA_LAUNCH_DEATH_WATCH_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "runtime/trace/board.h"

namespace lycia {

class DeathWatch {
 public:
  struct Options {
    Board* board = nullptr;
    int rank = 0;
    std::int64_t deadline_ns = 0;               // 0: silence ends nothing
    const std::atomic<bool>* broken = nullptr;  // set once the world has lost a rank; may be null
    std::function<void()> end_job;              // does not return
  };
  explicit DeathWatch(Options options) : options_(std::move(options)), thread_([this] { Watch(); }) {}
  ~DeathWatch();

  // After this rank has found the world broken: gives whoever knows more, such as a rank of the dead one's host, a moment to tell it. True
  // where this process itself has told it.
  bool AwaitReport() const;

 private:
  using Clock = std::chrono::steady_clock;

  void Watch();
  // Board::ClaimReport; its own where that stays undecided, as whoever was to decide or to tell may be dead, too.
  Board::Claim ClaimReport();
  void LookForTheDead(std::span<const BoardRow> rows);
  void EndSilentJob(std::span<const BoardRow> rows);
  void EndBrokenJob();

  const Options options_;
  std::atomic<bool> told_{false};  // by this process, of a death
  bool known_ = false;             // that somebody has told of it
  Clock::time_point broken_since_{}, undecided_since_{};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DEATH_WATCH_H_
