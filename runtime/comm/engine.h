// Engine: the communication thread of a process. It alone touches the wire, and it advances the open work of all communicators and
// channels, each a small state machine (Task).
//
// When nothing moves it sleeps until someone calls Wake(); only while messages of other processes or outside events are awaited does it
// poll, with short naps between, which Wake() ends too.
#ifndef LYCIA_RUNTIME_COMM_ENGINE_H_
#define LYCIA_RUNTIME_COMM_ENGINE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/comm/wire.h"
#include "runtime/core/status.h"

namespace lycia {

// What a task that did not move is waiting for.
enum class Need : std::uint8_t {
  kNothing,   // no work
  kArrival,   // receives are posted ahead; nobody has asked for the message yet
  kMessage,   // an operation that was asked for waits for its messages
  kEvent,     // an operation waits for the event it starts after, which tells nobody when it is done
  kPeer,      // an operation waits for what another process writes into shared memory
};

// All calls on the communication thread.
class Task {
 public:
  virtual ~Task() = default;
  virtual void Open(Wire& wire) = 0;           // opens ports, posts first receives
  virtual bool Advance(Wire& wire) = 0;        // true: something moved
  virtual Need need() const = 0;               // after an Advance() that moved nothing
  virtual void Fail(const Status& status) = 0;  // ends all open and later work; Advance is not called again
  virtual void Close(Wire& wire, bool failed) = 0;  // forgets open requests (not after a failure: the wire is dead), closes ports
  Status status;                               // a task's own failure, found in Advance: ends everything
};

class Engine {
 public:
  using OpenWire = std::function<StatusOr<std::unique_ptr<Wire>>()>;

  // Starts the thread and opens the wire on it.
  static StatusOr<std::shared_ptr<Engine>> Start(const OpenWire& open_wire);
  // Ends the thread; the wire is closed on it.
  ~Engine();

  // Blocks until the communication thread has run it. Set-up only.
  void Do(const std::function<void(Wire&)>& work);
  void Add(Task* task);
  void Remove(Task* task);

  // There is new work. Any thread, never blocks for long.
  void Wake();
  // Fails all tasks, now and later; the first call wins. Any thread.
  void Abort(const Status& why);

 private:
  struct Command {
    const std::function<void(Wire&)>* work;
    bool done = false;
  };

  Engine() = default;
  void Run(const OpenWire& open_wire, Status* opened);
  void RunCommands();
  void FailTasks(const Status& why);
  // True if any task moved; otherwise the strongest need is in *need.
  bool AdvanceTasks(Need* need);
  // Until Wake(), or for a nap that suits what is waited for and for how long.
  void Rest(Need need, std::uint64_t seen_wakeups, std::int64_t idle_ns);

  std::thread thread_;
  int wake_fd_ = -1;  // eventfd
  std::atomic<std::uint64_t> wakeups_{0};
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> abort_asked_{false};

  std::mutex mutex_;  // of what follows
  std::condition_variable answered_;
  std::vector<Command*> commands_;
  bool opened_ = false;
  bool stop_ = false;
  Status abort_why_;

  // Of the communication thread.
  std::unique_ptr<Wire> wire_;
  std::vector<Task*> tasks_;
  bool failed_ = false;
  Status failure_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_ENGINE_H_
