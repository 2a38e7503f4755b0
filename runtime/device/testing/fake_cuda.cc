#include "runtime/device/testing/fake_cuda.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/device/cuda_stream.h"

struct CUevent_st {
  std::uint64_t recorded = 0;   // number of the latest record
  std::uint64_t completed = 0;  // number of the youngest record that the device has passed
};

namespace {

struct Work {
  enum Kind { kCopy, kSet, kRecord, kWait, kElapse, kCall } kind;
  void* to = nullptr;
  const void* from = nullptr;
  std::size_t bytes = 0;
  int value = 0;
  CUevent_st* event = nullptr;
  std::uint64_t record = 0;
  std::int64_t ns = 0;
  std::int64_t deadline = 0;
  std::function<bool()> call = nullptr;
};

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct CUstream_st {
  static constexpr std::uint64_t kRoom = 1 << 13;
  std::vector<Work> work = std::vector<Work>(kRoom);
  std::uint64_t enqueued = 0, done = 0;
  int device = 0;
  bool capturing = false, capture_broken = false;
  std::vector<Work> captured;
};
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace {

constexpr std::size_t kTotalBytes = std::size_t{1} << 40;

std::mutex mutex;
std::vector<CUstream_st*>& Streams() {
  static auto* streams = new std::vector<CUstream_st*>;
  return *streams;
}
int live_events = 0, live_graphs = 0, graph_launches = 0;
cudaError_t fail_work = cudaSuccess, fail_enqueue = cudaSuccess, sticky = cudaSuccess;
int devices = 1;
bool peers = true;
int capability_major = 9, capability_minor = 0;
bool has_code = true;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;
thread_local CUstream_st* captured_here = nullptr;  // by this thread

struct Allocation {
  std::size_t bytes = 0;
  cudaMemoryType type = cudaMemoryTypeUnregistered;
  int device = 0;
};
std::map<const char*, Allocation>& Allocations() {
  static auto* allocations = new std::map<const char*, Allocation>;
  return *allocations;
}

// Memory of the devices is open to their work only: a host that reads or writes it itself is stopped by a fault, as on a real device.
constexpr std::size_t kPage = 4096, kLargePage = std::size_t{2} << 20;
bool memory_open = false, open_to_host = false;
std::size_t Mapped(std::size_t bytes) {
  const std::size_t page = bytes < kLargePage ? kPage : kLargePage;
  return std::max<std::size_t>(1, (bytes + page - 1) / page) * page;
}
void OpenMemory(bool open) {
  open |= open_to_host;
  if (memory_open == open) return;
  memory_open = open;
  for (const auto& [data, allocation] : Allocations()) {
    if (allocation.type != cudaMemoryTypeDevice) continue;
    mprotect(const_cast<char*>(data), Mapped(allocation.bytes), open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// What the capturing thread must not do: it ends in an error, as does the capture.
cudaError_t BreakCapture(CUstream_st& stream) {
  stream.capture_broken = true;
  return Answer(cudaErrorStreamCaptureUnsupported);
}

// Runs the first open work of a stream if it can run now.
bool RunOne(CUstream_st& stream) {
  if (stream.done == stream.enqueued) return false;
  Work& w = stream.work[stream.done % CUstream_st::kRoom];
  if (fail_work != cudaSuccess) sticky = fail_work;
  if (sticky != cudaSuccess) return false;
  if (w.kind == Work::kCopy || w.kind == Work::kSet || w.kind == Work::kCall) OpenMemory(true);
  switch (w.kind) {
    case Work::kCopy:
      std::memcpy(w.to, w.from, w.bytes);
      break;
    case Work::kSet:
      std::memset(w.to, w.value, w.bytes);
      break;
    case Work::kRecord:
      if (w.event->completed < w.record) w.event->completed = w.record;
      break;
    case Work::kWait:
      if (w.event->completed < w.record) return false;
      break;
    case Work::kElapse:
      if (w.deadline == 0) w.deadline = NowNs() + w.ns;
      if (NowNs() < w.deadline) return false;
      break;
    case Work::kCall:
      if (!w.call()) return false;
      w.call = nullptr;
      break;
  }
  ++stream.done;
  return true;
}

// Some progress on every stream, the youngest first: nobody may count on the order; under the lock. False: there was none.
bool Progress() {
  bool any = false;
  for (std::size_t i = Streams().size(); i-- > 0;) {
    for (int k = 0; k < 16 && RunOne(*Streams()[i]); ++k) any = true;
  }
  OpenMemory(false);
  return any;
}

void CheckRoom(const CUstream_st& stream, std::uint64_t work) {
  if (stream.enqueued - stream.done + work <= CUstream_st::kRoom) return;
  std::fputs("fake_cuda: a stream is full\n", stderr);
  std::abort();
}

cudaError_t Enqueue(cudaStream_t stream, Work work) {
  std::lock_guard<std::mutex> lock(mutex);
  if (sticky != cudaSuccess) return Answer(sticky);
  if (fail_enqueue != cudaSuccess) return Answer(std::exchange(fail_enqueue, cudaSuccess));
  if (stream->capturing) {
    if (work.kind == Work::kRecord || work.kind == Work::kWait) return BreakCapture(*stream);
    stream->captured.push_back(std::move(work));
    return cudaSuccess;
  }
  CheckRoom(*stream, 1);
  if (work.kind == Work::kRecord) work.record = ++work.event->recorded;
  if (work.kind == Work::kWait) work.record = work.event->recorded;
  stream->work[stream->enqueued++ % CUstream_st::kRoom] = std::move(work);
  return cudaSuccess;
}

cudaError_t Query(cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(mutex);
  if (stream->capturing) return BreakCapture(*stream);
  Progress();
  if (sticky != cudaSuccess) return Answer(sticky);
  return Answer(stream->done == stream->enqueued ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t AllocateGarbage(void** data, std::size_t bytes, cudaMemoryType type) {
  if (captured_here != nullptr) return BreakCapture(*captured_here);
  if (bytes > kTotalBytes) return Answer(cudaErrorMemoryAllocation);
  if (type == cudaMemoryTypeDevice) {
    *data = mmap(nullptr, Mapped(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*data == MAP_FAILED) return Answer(cudaErrorMemoryAllocation);
    madvise(*data, Mapped(bytes), MADV_HUGEPAGE);  // opened and closed at once
  } else {
    *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  }
  std::memset(*data, 0xcd, bytes);
  std::lock_guard<std::mutex> lock(mutex);
  if (type == cudaMemoryTypeDevice && !memory_open) mprotect(*data, Mapped(bytes), PROT_NONE);
  Allocations()[static_cast<const char*>(*data)] = {bytes, type, current_device};
  return cudaSuccess;
}

}  // namespace

namespace lycia {
namespace fake_cuda {

void OpenMemoryToHost(bool open) {
  std::lock_guard<std::mutex> lock(mutex);
  open_to_host = open;
  OpenMemory(open);
}

void FailNextWork(cudaError_t error) {
  std::lock_guard<std::mutex> lock(mutex);
  fail_work = error;
}
void FailNextEnqueue(cudaError_t error) {
  std::lock_guard<std::mutex> lock(mutex);
  fail_enqueue = error;
}
cudaError_t EnqueueWork(cudaStream_t stream, std::function<bool()> work) {
  return Enqueue(stream, {.kind = Work::kCall, .call = std::move(work)});
}
void SetDevices(int count, bool peer_access) {
  std::lock_guard<std::mutex> lock(mutex);
  devices = count;
  peers = peer_access;
}
void SetCapability(int major, int minor, bool code) {
  std::lock_guard<std::mutex> lock(mutex);
  capability_major = major;
  capability_minor = minor;
  has_code = code;
}
int DeviceOf(cudaStream_t stream) { return stream->device; }
int LiveObjects() {
  std::lock_guard<std::mutex> lock(mutex);
  return live_events + live_graphs + static_cast<int>(Streams().size());
}
int GraphLaunches() {
  std::lock_guard<std::mutex> lock(mutex);
  return graph_launches;
}
void Reset() {
  std::lock_guard<std::mutex> lock(mutex);
  fail_work = fail_enqueue = sticky = last_error = cudaSuccess;
  devices = 1;
  peers = true;
  capability_major = 9;
  capability_minor = 0;
  has_code = true;
}

cudaError_t EnqueueHostWork(cudaStream_t stream, std::function<void()> work) {
  return EnqueueWork(stream, [work = std::move(work)] {
    work();
    return true;
  });
}

}  // namespace fake_cuda

cudaError_t cuda::LaunchElapse(cudaStream_t stream, std::int64_t ns) { return Enqueue(stream, {.kind = Work::kElapse, .ns = ns}); }
cudaError_t cuda::FindCode() { return has_code ? cudaSuccess : Answer(cudaErrorNoKernelImageForDevice); }

}  // namespace lycia

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13010;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof(*properties));
  std::strcpy(properties->name, "Fake");
  properties->major = capability_major;
  properties->minor = capability_minor;
  properties->multiProcessorCount = 132;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return Answer(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* possible, int device, int peer) {
  *possible = device != peer && peers;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return Answer(peers ? cudaSuccess : cudaErrorPeerAccessUnsupported); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  std::lock_guard<std::mutex> lock(mutex);
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  auto after = Allocations().upper_bound(static_cast<const char*>(data));
  if (after == Allocations().begin()) return cudaSuccess;
  const auto& [start, allocation] = *--after;
  if (static_cast<const char*>(data) >= start + allocation.bytes) return cudaSuccess;
  attributes->type = allocation.type;
  attributes->device = allocation.device;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t error) { return error == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress" : "cudaErrorFake"; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorIllegalAddress ? "an illegal memory access was encountered" : "fake";
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) { return AllocateGarbage(data, bytes, cudaMemoryTypeDevice); }
cudaError_t cudaMallocHost(void** data, std::size_t bytes) { return AllocateGarbage(data, bytes, cudaMemoryTypeHost); }
cudaError_t cudaFreeHost(void* data) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    Allocations().erase(static_cast<const char*>(data));
  }
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  std::lock_guard<std::mutex> lock(mutex);
  while (Progress()) {  // as far as there can be any: what runs may still use it
  }
  const auto found = Allocations().find(static_cast<const char*>(data));
  const std::size_t bytes = found->second.bytes;
  Allocations().erase(found);
  munmap(data, Mapped(bytes));
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  *free_bytes = *total_bytes = kTotalBytes;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  std::lock_guard<std::mutex> lock(mutex);
  *stream = new CUstream_st;
  (*stream)->device = current_device;
  Streams().push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(mutex);
  while (RunOne(*stream)) {
  }
  OpenMemory(false);
  std::erase(Streams(), stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return Query(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  cudaError_t answer = Query(stream);
  while (answer == cudaErrorNotReady) answer = Query(stream);
  cudaGetLastError();
  return Answer(answer);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return Enqueue(stream, {.kind = Work::kWait, .event = event});
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return Enqueue(stream, {.kind = Work::kCopy, .to = to, .from = from, .bytes = bytes});
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return Enqueue(stream, {.kind = Work::kSet, .to = to, .bytes = bytes, .value = value});
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  std::lock_guard<std::mutex> lock(mutex);
  // Any other mode would forbid what other threads of a process do meanwhile.
  if (stream->capturing || captured_here != nullptr || mode != cudaStreamCaptureModeThreadLocal) return Answer(cudaErrorIllegalState);
  stream->capturing = true;
  stream->capture_broken = false;
  captured_here = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard<std::mutex> lock(mutex);
  *graph = nullptr;
  if (!stream->capturing || captured_here != stream) return Answer(cudaErrorIllegalState);
  stream->capturing = false;
  captured_here = nullptr;
  std::vector<Work> work = std::exchange(stream->captured, {});
  if (stream->capture_broken) return Answer(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(work)};
  ++live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* graph, cudaGraph_t recorded, unsigned long long) {
  std::lock_guard<std::mutex> lock(mutex);
  *graph = new CUgraphExec_st{recorded->work};
  ++live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(mutex);
  if (sticky != cudaSuccess) return Answer(sticky);
  if (fail_enqueue != cudaSuccess) return Answer(std::exchange(fail_enqueue, cudaSuccess));
  if (stream->capturing) return BreakCapture(*stream);
  CheckRoom(*stream, graph->work.size());
  for (const Work& work : graph->work) stream->work[stream->enqueued++ % CUstream_st::kRoom] = work;
  ++graph_launches;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  std::lock_guard<std::mutex> lock(mutex);
  delete graph;
  --live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  std::lock_guard<std::mutex> lock(mutex);
  delete graph;
  --live_graphs;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  std::lock_guard<std::mutex> lock(mutex);
  *event = new CUevent_st;
  ++live_events;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  std::lock_guard<std::mutex> lock(mutex);
  delete event;
  --live_events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return Enqueue(stream, {.kind = Work::kRecord, .event = event}); }
cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard<std::mutex> lock(mutex);
  Progress();
  if (sticky != cudaSuccess) return Answer(sticky);
  return Answer(event->completed >= event->recorded ? cudaSuccess : cudaErrorNotReady);
}

}  // extern "C"
