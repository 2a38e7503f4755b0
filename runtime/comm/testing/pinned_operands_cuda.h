// The suite's operands in page-locked memory of the fake runtime while this exists.
#ifndef LYCIA_RUNTIME_COMM_TESTING_PINNED_OPERANDS_CUDA_H_
#define LYCIA_RUNTIME_COMM_TESTING_PINNED_OPERANDS_CUDA_H_

#include <cuda_runtime_api.h>

#include <algorithm>

#include "runtime/comm/conformance_data.h"
#include "runtime/core/check.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {

class PinnedOperands {
 public:
  PinnedOperands() {
    conformance::operand_memory.allocate = [](std::size_t bytes) {
      void* data = nullptr;
      LYCIA_CHECK(cudaMallocHost(&data, std::max<std::size_t>(bytes, 1)) == cudaSuccess);
      return data;
    };
    conformance::operand_memory.free = [](void* data) { cudaFreeHost(data); };
  }
  ~PinnedOperands() { conformance::operand_memory = {}; }
  PinnedOperands(const PinnedOperands&) = delete;
};

// Likewise in memory of the fake device, which the suite can read only because the device is a fake.
class DeviceOperands {
 public:
  DeviceOperands() {
    fake_cuda::OpenMemoryToHost(true);
    conformance::operand_memory.allocate = [](std::size_t bytes) {
      void* data = nullptr;
      LYCIA_CHECK(cudaMalloc(&data, std::max<std::size_t>(bytes, 1)) == cudaSuccess);
      return data;
    };
    conformance::operand_memory.free = [](void* data) { cudaFree(data); };
  }
  ~DeviceOperands() {
    conformance::operand_memory = {};
    fake_cuda::OpenMemoryToHost(false);
  }
  DeviceOperands(const DeviceOperands&) = delete;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TESTING_PINNED_OPERANDS_CUDA_H_
