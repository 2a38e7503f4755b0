#include "runtime/comm/engine.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "runtime/core/check.h"

namespace lycia {
namespace {

// After something moved, the next message is often microseconds away: give the core away, but look again at once.
constexpr std::int64_t kYieldNs = 20'000;
// The ranks of an operation in shared memory meet many times in it, each time for what takes a peer tens of microseconds.
constexpr std::int64_t kPeerYieldNs = 200'000;
// Then naps of a quarter of the time waited so far, so that a nap never costs much more than the wait it ends; the longest depends on who
// waits: an operation that was asked for, receives posted ahead, or nobody (MPI may still have buffered messages to push out).
constexpr std::int64_t kShortestNapNs = 20'000;
constexpr std::int64_t kLongestNapNs = 50'000;
constexpr std::int64_t kLongestArrivalNapNs = 200'000;
constexpr std::int64_t kLongestIdleNapNs = 10'000'000;
constexpr std::int64_t kSleep = -1;  // until woken

std::int64_t NapNs(Need need, bool external, std::int64_t idle_ns) {
  const auto nap = [&](std::int64_t longest) { return std::clamp(idle_ns / 4, kShortestNapNs, longest); };
  if (need >= Need::kEvent) return nap(kLongestNapNs);
  if (!external) return kSleep;
  switch (need) {
    case Need::kNothing: return nap(kLongestIdleNapNs);
    case Need::kArrival: return nap(kLongestArrivalNapNs);
    default: return nap(kLongestNapNs);
  }
}

std::int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// Signals of the process belong to its other threads.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

StatusOr<std::shared_ptr<Engine>> Engine::Start(const OpenWire& open_wire) {
  std::shared_ptr<Engine> engine(new Engine);
  engine->wake_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (engine->wake_fd_ < 0) return absl::ResourceExhaustedError("no file descriptor left for the communication thread; raise `ulimit -n`");
  Status opened;
  {
    BlockedSignals blocked;
    engine->thread_ = std::thread([&] { engine->Run(open_wire, &opened); });
  }
  std::unique_lock<std::mutex> lock(engine->mutex_);
  engine->answered_.wait(lock, [&] { return engine->opened_; });
  if (!opened.ok()) return opened;
  return engine;
}

Engine::~Engine() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

void Engine::Do(const std::function<void(Wire&)>& work) {
  Command command{&work};
  std::unique_lock<std::mutex> lock(mutex_);
  commands_.push_back(&command);
  lock.unlock();
  Wake();
  lock.lock();
  answered_.wait(lock, [&] { return command.done; });
}

void Engine::Add(Task* task) {
  Do([&](Wire& wire) {
    task->Open(wire);
    tasks_.push_back(task);
    if (failed_) task->Fail(failure_);
  });
}

void Engine::Remove(Task* task) {
  Do([&](Wire& wire) {
    tasks_.erase(std::find(tasks_.begin(), tasks_.end(), task));
    task->Close(wire, failed_);
  });
}

// Either this thread sees sleeping_ or the communication thread sees the new count: both are sequentially consistent.
void Engine::Wake() {
  wakeups_.fetch_add(1);
  if (!sleeping_.exchange(false)) return;
  const std::uint64_t one = 1;
  const ssize_t written = ::write(wake_fd_, &one, sizeof(one));
  LYCIA_CHECK_EQ(written, static_cast<ssize_t>(sizeof(one)));
}

void Engine::Abort(const Status& why) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (abort_asked_.load()) return;
    abort_why_ = why.ok() ? absl::AbortedError("aborted without a reason") : why;
    abort_asked_.store(true);
  }
  Wake();
}

void Engine::Run(const OpenWire& open_wire, Status* opened) {
  ::pthread_setname_np(::pthread_self(), "lycia-comm");
  ::prctl(PR_SET_TIMERSLACK, 1'000UL);  // the default of 50 us would double each nap
  StatusOr<std::unique_ptr<Wire>> wire = open_wire();
  const bool ok = wire.ok();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    *opened = wire.status();
    if (ok) wire_ = std::move(wire).value();
    opened_ = true;
    answered_.notify_all();
  }
  if (!ok) return;

  std::int64_t last_move_ns = NowNs();
  for (;;) {
    const std::uint64_t seen_wakeups = wakeups_.load();
    RunCommands();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (stop_ && commands_.empty()) break;
    }
    if (abort_asked_.load() && !failed_) FailTasks(abort_why_);
    Need need = Need::kNothing;
    if (AdvanceTasks(&need)) {
      last_move_ns = NowNs();
    } else {
      Rest(need, seen_wakeups, NowNs() - last_move_ns);
    }
  }
  wire_.reset();
}

void Engine::RunCommands() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (commands_.empty()) return;
  const std::vector<Command*> commands = std::exchange(commands_, {});
  lock.unlock();
  for (Command* command : commands) (*command->work)(*wire_);
  lock.lock();
  for (Command* command : commands) command->done = true;
  answered_.notify_all();
}

void Engine::FailTasks(const Status& why) {
  failed_ = true;
  failure_ = why;
  wire_->Abandon();
  for (Task* task : tasks_) task->Fail(why);
}

bool Engine::AdvanceTasks(Need* need) {
  if (failed_) return false;
  bool moved = wire_->Poll();
  for (Task* task : tasks_) {
    if (task->Advance(*wire_)) {
      moved = true;
    } else {
      *need = std::max(*need, task->need());
    }
    if (!task->status.ok()) Abort(task->status);
  }
  if (!wire_->status().ok()) Abort(wire_->status());
  return moved;
}

void Engine::Rest(Need need, std::uint64_t seen_wakeups, std::int64_t idle_ns) {
  const std::int64_t nap_ns = failed_ ? kSleep : NapNs(need, wire_->external(), idle_ns);
  if (nap_ns != kSleep && need >= Need::kMessage && idle_ns < (need == Need::kPeer ? kPeerYieldNs : kYieldNs)) {
    ::sched_yield();
    return;
  }
  sleeping_.store(true);
  if (wakeups_.load() == seen_wakeups) {
    pollfd woken{wake_fd_, POLLIN, 0};
    const timespec nap{0, nap_ns};
    std::uint64_t writes = 0;
    if (::ppoll(&woken, 1, nap_ns == kSleep ? nullptr : &nap, nullptr) > 0 && ::read(wake_fd_, &writes, sizeof(writes)) < 0) {
      LYCIA_CHECK(false) << "the communication thread cannot read its eventfd ";
    }
  }
  sleeping_.store(false);
}

}  // namespace lycia
