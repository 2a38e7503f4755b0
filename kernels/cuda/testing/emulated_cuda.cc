#include "kernels/cuda/testing/emulated_cuda.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "runtime/device/testing/fake_cuda.h"

// Saves the running fiber's registers on its stack and goes on with the other's: void lycia_switch_fiber(void** from, void* to).
asm(R"(
.text
.globl lycia_switch_fiber
.type lycia_switch_fiber, @function
lycia_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size lycia_switch_fiber, .-lycia_switch_fiber
)");
extern "C" void lycia_switch_fiber(void** from, void* to);

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace lycia::emulator {

namespace {

constexpr int kWarp = 32, kMostThreads = 1024;
constexpr std::size_t kStackBytes = 128 << 10;

struct Fiber {
  enum State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone } state = kDone;
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  uint3 thread{};
  unsigned mask = 0;  // that it waits for
  int exchanges = 0;  // so far
  struct Copy {
    void* to;
    const void* from;
    int bytes, present, group;
  };
  std::vector<Copy> copies;  // that have not arrived, in their order
  int groups = 0;            // ended
};
constexpr int kSmallSharedBytes = 48 << 10, kMostSharedBytes = 99 << 10;  // without an attribute, and with it on sm_86

Fiber fibers[kMostThreads];
alignas(16) char slots[kMostThreads / kWarp][kWarp][16];
alignas(32) char exchanged[2][kMostThreads / kWarp][kWarp][kExchangedBytes];
alignas(1024) char dynamic_shared[kMostSharedBytes];
std::mutex attributes_mutex;
std::map<const void*, int>& SharedBytesOf() {
  static auto* bytes = new std::map<const void*, int>;
  return *bytes;
}
int num_threads = 0, running = 0;
void* scheduler = nullptr;
const std::function<void()>* kernel_body = nullptr;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s; block (%u, %u, %u), thread %d of %d\n", what, blockIdx.x, blockIdx.y, blockIdx.z, running,
               num_threads);
  std::abort();
}

void Leave(Fiber::State state) {
  Fiber& fiber = fibers[running];
  fiber.state = state;
  lycia_switch_fiber(&fiber.stack_pointer, scheduler);
}

void RunThread() {
  (*kernel_body)();
  Leave(Fiber::kDone);
  std::abort();
}

void Start(int index, const uint3& thread) {
  Fiber& fiber = fibers[index];
  if (fiber.stack == nullptr) {
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) Die("no memory for the stack of a thread");
    fiber.stack = static_cast<char*>(stack);
  }
  auto* top = reinterpret_cast<std::uintptr_t*>(fiber.stack + kStackBytes);
  top -= 2;  // at the entry of a function the stack is 8 bytes off a multiple of 16
  *top = reinterpret_cast<std::uintptr_t>(&RunThread);
  fiber.stack_pointer = top - 6;  // six registers, whatever they hold
  fiber.thread = thread;
  fiber.state = Fiber::kReady;
  fiber.exchanges = fiber.groups = 0;
  fiber.copies.clear();
}

void Resume(int index) {
  running = index;
  threadIdx = fibers[index].thread;
  lycia_switch_fiber(&scheduler, fibers[index].stack_pointer);
}

// Releases the barriers that everybody has reached; true if there was one.
bool ReleaseBarriers() {
  bool released = false;
  int at_barrier = 0, done = 0;
  for (int first = 0; first < num_threads; first += kWarp) {
    const int lanes = num_threads - first < kWarp ? num_threads - first : kWarp;
    unsigned waiting = 0, wanted = 0, left = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      const Fiber& fiber = fibers[first + lane];
      if (fiber.state == Fiber::kAtWarpBarrier) waiting |= 1u << lane, wanted |= fiber.mask;
      if (fiber.state == Fiber::kDone) left |= 1u << lane, ++done;
      at_barrier += fiber.state == Fiber::kAtBlockBarrier;
    }
    if (waiting == 0) continue;
    if ((wanted & left) != 0) Die("lanes of a warp's barrier or shuffle have left the kernel");
    if (waiting != wanted) continue;
    for (int lane = 0; lane < lanes; ++lane) {
      if ((waiting >> lane & 1u) != 0) fibers[first + lane].state = Fiber::kReady;
    }
    released = true;
  }
  if (at_barrier > 0 && at_barrier + done == num_threads) {
    for (int i = 0; i < num_threads; ++i) {
      if (fibers[i].state == Fiber::kAtBlockBarrier) fibers[i].state = Fiber::kReady;
    }
    released = true;
  }
  return released;
}

void RunBlock(bool backwards) {
  num_threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  int index = 0;
  for (unsigned z = 0; z < blockDim.z; ++z) {
    for (unsigned y = 0; y < blockDim.y; ++y) {
      for (unsigned x = 0; x < blockDim.x; ++x) Start(index++, {x, y, z});
    }
  }
  for (;;) {
    int open = 0;
    for (int i = 0; i < num_threads; ++i) {
      const int at = backwards ? num_threads - 1 - i : i;
      if (fibers[at].state == Fiber::kReady) Resume(at);
      open += fibers[at].state != Fiber::kDone;
    }
    if (open == 0) return;
    if (!ReleaseBarriers()) Die("threads wait at barriers that the others never reach");
  }
}

// Under the fake runtime's lock: one kernel at a time.
void RunGrid(const dim3& blocks, const dim3& threads, std::size_t shared_bytes, const std::function<void()>& body) {
  static bool backwards = false;
  kernel_body = &body;
  gridDim = blocks;
  blockDim = threads;
  const std::uint64_t count = std::uint64_t{blocks.x} * blocks.y * blocks.z;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t at = backwards ? count - 1 - i : i;
    blockIdx = {static_cast<unsigned>(at % blocks.x), static_cast<unsigned>(at / blocks.x % blocks.y),
                static_cast<unsigned>(at / blocks.x / blocks.y)};
    std::memset(dynamic_shared, 0xff, shared_bytes);
    RunBlock(backwards);
  }
  backwards = !backwards;
}

}  // namespace

void BlockBarrier() { Leave(Fiber::kAtBlockBarrier); }
void WarpBarrier(unsigned mask) {
  fibers[running].mask = mask;
  Leave(Fiber::kAtWarpBarrier);
}
void* WarpSlot(int lane) {
  if (lane < 0 || lane >= kWarp) Die("a shuffle from a lane outside the warp");
  return slots[running / kWarp][lane];
}
int Lane() { return running % kWarp; }

const char* ExchangeBytes(const void* value, std::size_t bytes) {
  // Two places in turn: who comes to the next exchange but one knows that all have come to the next, and read this one.
  char(&place)[kWarp][kExchangedBytes] = exchanged[fibers[running].exchanges++ % 2][running / kWarp];
  std::memcpy(place[Lane()], value, bytes);
  WarpBarrier(0xffffffffu);
  return place[0];
}

void CopyAsync(void* to, const void* from, int bytes, int present) {
  const auto aligned = [&](const void* address) { return reinterpret_cast<std::uintptr_t>(address) % static_cast<unsigned>(bytes) == 0; };
  Require(aligned(to) && aligned(from), "an asynchronous copy is not aligned");
  std::memset(to, 0xff, static_cast<std::size_t>(bytes));
  fibers[running].copies.push_back({to, from, bytes, present, fibers[running].groups});
}
void CommitCopies() { ++fibers[running].groups; }
void WaitCopies(int pending) {
  Fiber& fiber = fibers[running];
  std::size_t arrived = 0;
  for (; arrived < fiber.copies.size() && fiber.copies[arrived].group < fiber.groups - pending; ++arrived) {
    const Fiber::Copy& copy = fiber.copies[arrived];
    std::memset(copy.to, 0, static_cast<std::size_t>(copy.bytes));
    if (copy.present > 0) std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.present));
  }
  fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + static_cast<std::ptrdiff_t>(arrived));
}

void* DynamicShared() { return dynamic_shared; }
void Require(bool promise, const char* message) {
  if (!promise) Die(message);
}

cudaError_t SetKernelAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > kMostSharedBytes) return cudaErrorInvalidValue;
  std::lock_guard<std::mutex> lock(attributes_mutex);
  SharedBytesOf()[kernel] = value;
  return cudaSuccess;
}

cudaError_t EnqueueKernel(const void* kernel, const cudaLaunchConfig_t& config, std::function<void()> body) {
  const dim3 blocks = config.gridDim, threads = config.blockDim;
  const std::uint64_t in_block = std::uint64_t{threads.x} * threads.y * threads.z;
  const bool grid_fits = blocks.x >= 1 && blocks.x <= INT32_MAX && blocks.y >= 1 && blocks.y <= 65535 && blocks.z >= 1 && blocks.z <= 65535;
  if (!grid_fits || in_block < 1 || in_block > kMostThreads || threads.z > 64) return cudaErrorInvalidConfiguration;
  if (config.numAttrs != 0) return cudaErrorNotSupported;
  if (config.dynamicSmemBytes > kSmallSharedBytes) {
    std::lock_guard<std::mutex> lock(attributes_mutex);
    const auto found = SharedBytesOf().find(kernel);
    if (found == SharedBytesOf().end() || static_cast<int>(config.dynamicSmemBytes) > found->second) return cudaErrorInvalidValue;
  }
  return fake_cuda::EnqueueHostWork(config.stream, [blocks, threads, shared = config.dynamicSmemBytes, body = std::move(body)] {
    RunGrid(blocks, threads, shared, body);
  });
}

}  // namespace lycia::emulator
