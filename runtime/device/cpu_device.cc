#include <sys/mman.h>
#include <time.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

// Anonymous pages arrive zeroed; large ones ask for huge pages, which spares page faults in virtual machines.
StatusOr<Buffer> MapPages(std::int64_t bytes) {
  if (bytes == 0) return Buffer();
  void* data = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes of memory; use a smaller batch or more ranks"));
  }
  if (bytes >= (std::int64_t{4} << 20)) ::madvise(data, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
  return Buffer(data, bytes, [bytes](void* p) { ::munmap(p, static_cast<std::size_t>(bytes)); });
}

void SleepFor(std::int64_t ns) {
  if (ns <= 0) return;
  timespec left{ns / 1'000'000'000, ns % 1'000'000'000};
  while (::nanosleep(&left, &left) != 0) {
  }
}

// Work runs on the calling thread when it is enqueued, so every recorded event is done.
class CpuStream final : public Stream {
 public:
  explicit CpuStream(std::unique_ptr<ThreadPool> pool) : Stream(std::move(pool)) {}
  DeviceKind kind() const override { return DeviceKind::kCpu; }
  void Copy(void* to, const void* from, std::int64_t bytes) override {
    if (ok() && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
  void Zero(void* to, std::int64_t bytes) override {
    if (ok() && bytes > 0) std::memset(to, 0, static_cast<std::size_t>(bytes));
  }
  void Wait(const Event& event) override {
    if (ok()) Fail(event.Wait(guard()));
  }
  Event Record() override { return {}; }
  void Elapse(std::int64_t ns) override { SleepFor(ns); }
  Status Synchronize() override { return status(); }
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options) : options_(options) {}
  DeviceKind kind() const override { return DeviceKind::kCpu; }
  std::string name() const override { return "cpu"; }
  StatusOr<Buffer> Allocate(std::int64_t bytes, MemoryKind) override { return MapPages(bytes); }
  StatusOr<std::unique_ptr<Stream>> NewStream() override {
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<ThreadPool> pool, ThreadPool::Create(options_));
    return std::make_unique<CpuStream>(std::move(pool));
  }

 private:
  CpuOptions options_;
};

// No data: buffers have a size and no address, computation takes no time unless told to Elapse.
class ShapeStream final : public Stream {
 public:
  DeviceKind kind() const override { return DeviceKind::kShape; }
  void Copy(void*, const void*, std::int64_t) override {}
  void Zero(void*, std::int64_t) override {}
  void Wait(const Event& event) override {
    if (ok()) Fail(event.Wait(guard()));
  }
  Event Record() override { return {}; }
  void Elapse(std::int64_t ns) override { SleepFor(ns); }
  Status Synchronize() override { return status(); }
};

class ShapeDevice final : public Device {
 public:
  DeviceKind kind() const override { return DeviceKind::kShape; }
  std::string name() const override { return "shape"; }
  StatusOr<Buffer> Allocate(std::int64_t bytes, MemoryKind kind) override {
    // Memory that the host touches is real: token batches, scalars and file staging exist in a dry run too.
    if (kind != MemoryKind::kDevice) return MapPages(bytes);
    return Buffer(nullptr, bytes, nullptr);
  }
  StatusOr<std::unique_ptr<Stream>> NewStream() override { return std::make_unique<ShapeStream>(); }
};

}  // namespace

std::unique_ptr<Device> NewCpuDevice(const CpuOptions& options) { return std::make_unique<CpuDevice>(options); }
std::unique_ptr<Device> NewShapeDevice() { return std::make_unique<ShapeDevice>(); }

}  // namespace lycia
