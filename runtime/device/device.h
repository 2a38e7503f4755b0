// Device, Buffer and Stream: where memory lives and where work is enqueued.
//
// Enqueue or do: work put on a Stream returns nothing and fails through the stream (its first failure sticks; later work does nothing);
// everything else returns a Status. On the CPU an enqueued computation runs at once on the calling thread; on CUDA it runs later; on a
// device of kind kShape there is no data and every computation returns at once (dry run, emulated compute).
// Operations are free functions on a stream (kernels/), never methods of the device.
#ifndef LYCIA_RUNTIME_DEVICE_DEVICE_H_
#define LYCIA_RUNTIME_DEVICE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "runtime/core/status.h"
#include "runtime/device/event.h"
#include "runtime/device/thread_pool.h"

namespace lycia {

enum class DeviceKind : std::uint8_t { kCpu, kCuda, kShape };
enum class MemoryKind : std::uint8_t { kDevice, kPinned, kHost };

// Owns one allocation; 64-byte aligned or better, zeroed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, std::int64_t bytes, std::function<void(void*)> free) : data_(data), bytes_(bytes), free_(std::move(free)) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(free_, other.free_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr && free_) free_(data_);
  }

  void* data() const { return data_; }  // nullptr for kDevice memory of kShape
  std::int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
  std::function<void(void*)> free_;
};

class Stream;

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string name() const = 0;  // "cpu", "cuda:0 NVIDIA H200", "shape"
  // ResourceExhausted with the size asked for and what is free.
  virtual StatusOr<Buffer> Allocate(std::int64_t bytes, MemoryKind kind) = 0;
  virtual StatusOr<std::unique_ptr<Stream>> NewStream() = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual DeviceKind kind() const = 0;

  // Between any two memories the device can reach; regions must not overlap.
  virtual void Copy(void* to, const void* from, std::int64_t bytes) = 0;
  virtual void Zero(void* to, std::int64_t bytes) = 0;
  // Later work on this stream starts after the event. On the CPU this blocks, under the guard.
  virtual void Wait(const Event& event) = 0;
  // Done when everything enqueued so far is.
  virtual Event Record() = 0;
  // Emulated compute: the stream is busy for this long and uses no processor.
  virtual void Elapse(std::int64_t ns) = 0;
  // Blocks until everything enqueued is done; the first failure, if any.
  [[nodiscard]] virtual Status Synchronize() = 0;

  // Any kernel reports here. The first failure sticks.
  void Fail(const Status& status) {
    if (status_.ok()) status_ = status;
  }
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  // Asked while a Wait blocks; not owned.
  void set_guard(WaitGuard* guard) { guard_ = guard; }
  WaitGuard* guard() const { return guard_; }
  // The threads that compute for this stream, the caller among them, with their scratch memory. On kCpu always there.
  ThreadPool* pool() const { return pool_.get(); }

 protected:
  explicit Stream(std::unique_ptr<ThreadPool> pool = nullptr) : pool_(std::move(pool)) {}

 private:
  Status status_;
  WaitGuard* guard_ = nullptr;
  std::unique_ptr<ThreadPool> pool_;
};

// Every stream has threads and scratch memory of its own: NewStream fails as ThreadPool::Create does.
std::unique_ptr<Device> NewCpuDevice(const CpuOptions& options = {});
std::unique_ptr<Device> NewShapeDevice();
struct CudaOptions {
  // Matrix products of f32 on tensor cores: operands are rounded to 10 bits of fraction, products and sums stay f32. Off: all 23 bits.
  bool tf32 = false;
};
// Unavailable, with the reason, when the build has no CUDA or the machine no such GPU.
StatusOr<std::unique_ptr<Device>> NewCudaDevice(int ordinal, const CudaOptions& options = {});

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_DEVICE_H_
