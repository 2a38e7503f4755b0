// ThreadPool: the threads of one rank and their scratch memory. A kernel forks its work over them and joins: no allocation and no lock.
//
//   pool.Run([&](int thread) { ... part `thread` of pool.threads() ... });
//
// Thread 0 is the caller. The others wait for work by spinning for a few microseconds (the next kernel usually follows at once), then
// asleep, so that an idle pool uses no processor.
#ifndef LYCIA_RUNTIME_DEVICE_THREAD_POOL_H_
#define LYCIA_RUNTIME_DEVICE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/core/status.h"

namespace lycia {

// What a rank's compute runs on.
struct CpuOptions {
  int threads = 1;         // the caller among them; 1: no thread is started
  std::vector<int> cores;  // thread i > 0 is pinned to cores[i % size]; the caller pins itself (PinThisThread). Empty: not pinned
  std::int64_t workspace_bytes = std::int64_t{8} << 20;  // of each thread; pages are taken on first use
};

// Restricts the calling thread to one core. InvalidArgument when the process may not run there.
Status PinThisThread(int core);

class ThreadPool {
 public:
  // InvalidArgument for fewer than one thread or a core that is not there; ResourceExhausted without threads or memory.
  static StatusOr<std::unique_ptr<ThreadPool>> Create(const CpuOptions& options);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workspaces_.size()); }
  // Calls body(0) .. body(threads() - 1), each on its thread, and returns when all have. One Run at a time, never from a body.
  void Run(absl::FunctionRef<void(int thread)> body);
  // Scratch of one thread, 64-byte aligned; for the body that runs there, until it returns.
  std::span<char> workspace(int thread) const { return workspaces_[static_cast<std::size_t>(thread)]; }

 private:
  ThreadPool() = default;
  void Work(int thread);

  std::vector<std::span<char>> workspaces_;
  std::vector<std::thread> workers_;
  const absl::FunctionRef<void(int)>* body_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> round_{0};    // grows by one with every Run
  alignas(64) std::atomic<std::uint32_t> working_{0};  // workers that have not finished this round
  std::atomic<bool> stopping_{false};
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_THREAD_POOL_H_
