#include "runtime/device/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <system_error>

#include "absl/strings/str_cat.h"

namespace lycia {
namespace {

constexpr int kSpins = 4000;  // some tens of microseconds, about what a wake-up costs

// Until value() != old.
void WaitWhile(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    __builtin_ia32_pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

Status Pin(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &set);
  if (pthread_setaffinity_np(thread, sizeof set, &set) == 0) return OkStatus();
  return InvalidArgument("cannot run on core ", core, ": it is not there or not given to this process; see `taskset -p $$`");
}

}  // namespace

Status PinThisThread(int core) { return Pin(pthread_self(), core); }

StatusOr<std::unique_ptr<ThreadPool>> ThreadPool::Create(const CpuOptions& options) {
  if (options.threads < 1) return InvalidArgument("a rank needs at least 1 thread, not ", options.threads);
  std::unique_ptr<ThreadPool> pool(new ThreadPool());
  const auto bytes = static_cast<std::size_t>((options.workspace_bytes + 63) / 64 * 64);
  for (int i = 0; i < options.threads; ++i) {
    void* data = bytes == 0 ? nullptr : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return absl::ResourceExhaustedError(absl::StrCat("cannot map ", bytes, " bytes of workspace for a thread"));
    if (bytes >= (std::size_t{4} << 20)) ::madvise(data, bytes, MADV_HUGEPAGE);
    pool->workspaces_.emplace_back(static_cast<char*>(data), bytes);
  }
  for (int i = 1; i < options.threads; ++i) {
    try {
      pool->workers_.emplace_back([&p = *pool, i] { p.Work(i); });
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot start thread ", i, " of ", options.threads, ": ", error.what()));
    }
    if (options.cores.empty()) continue;
    LYCIA_RETURN_IF_ERROR(Pin(pool->workers_.back().native_handle(), options.cores[static_cast<std::size_t>(i) % options.cores.size()]));
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  for (const std::span<char>& workspace : workspaces_) {
    if (!workspace.empty()) ::munmap(workspace.data(), workspace.size());
  }
}

void ThreadPool::Run(absl::FunctionRef<void(int thread)> body) {
  if (workers_.empty()) return body(0);
  body_ = &body;
  working_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  body(0);
  for (std::uint32_t left = working_.load(std::memory_order_acquire); left != 0; left = working_.load(std::memory_order_acquire)) {
    WaitWhile(working_, left);
  }
}

void ThreadPool::Work(int thread) {
  for (std::uint32_t seen = 0;;) {
    WaitWhile(round_, seen);
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    (*body_)(thread);
    if (working_.fetch_sub(1, std::memory_order_acq_rel) == 1) working_.notify_one();
  }
}

}  // namespace lycia
