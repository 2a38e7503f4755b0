// The conformance suite's operands in page-locked memory, where the devices and the suite both reach them.
#ifndef TESTS_GPU_PINNED_POOL_H_
#define TESTS_GPU_PINNED_POOL_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/comm/conformance_data.h"
#include "runtime/core/check.h"
#include "runtime/device/device.h"

namespace lycia {

// For many small vectors: blocks of powers of two, kept for the next one.
class PinnedPool {
 public:
  PinnedPool() : device_(*NewCudaDevice(0)) {}
  void* Take(std::size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t size = std::bit_ceil(std::max<std::size_t>(bytes, 256));
    std::vector<void*>& free = free_[size];
    if (free.empty()) {
      StatusOr<Buffer> slab = device_->Allocate(static_cast<std::int64_t>(std::max<std::size_t>(size, 1 << 20)), MemoryKind::kPinned);
      LYCIA_CHECK_OK(slab.status());
      for (std::size_t at = 0; at + size <= static_cast<std::size_t>(slab->bytes()); at += size) {
        free.push_back(static_cast<char*>(slab->data()) + at);
      }
      slabs_.push_back(*std::move(slab));
    }
    void* data = free.back();
    free.pop_back();
    size_of_[data] = size;
    return data;
  }
  void GiveBack(void* data) {
    std::lock_guard<std::mutex> lock(mutex_);
    free_[size_of_.at(data)].push_back(data);
  }

 private:
  std::mutex mutex_;
  const std::unique_ptr<Device> device_;
  std::map<std::size_t, std::vector<void*>> free_;
  std::map<void*, std::size_t> size_of_;
  std::vector<Buffer> slabs_;
};

// While it exists. There must be a GPU.
class PinnedOperandsOfSuite {
 public:
  PinnedOperandsOfSuite() {
    conformance::operand_memory = {[](std::size_t bytes) { return Pool().Take(bytes); }, [](void* data) { Pool().GiveBack(data); }};
  }
  ~PinnedOperandsOfSuite() { conformance::operand_memory = {}; }
  PinnedOperandsOfSuite(const PinnedOperandsOfSuite&) = delete;

 private:
  // Never given back: cudaFreeHost waits for the whole device.
  static PinnedPool& Pool() {
    static auto* pool = new PinnedPool;
    return *pool;
  }
};

}  // namespace lycia

#endif  // TESTS_GPU_PINNED_POOL_H_
