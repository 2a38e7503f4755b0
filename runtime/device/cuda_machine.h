// The GPUs of this machine as a report wants them: what they are, who reads whose memory, how fast memory is copied.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_MACHINE_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/status.h"

namespace lycia::cuda {

struct GpuMachine {
  struct Gpu {
    std::string name;
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    std::int64_t total_bytes = 0, free_bytes = 0;
    std::string why_not;  // empty: this build runs on it
  };
  int driver = 0, runtime = 0;           // 13000: CUDA 13.0
  std::vector<Gpu> gpus;                 // by ordinal
  std::vector<std::vector<bool>> reads;  // [reader][owner]: kernels of one reach the memory of the other
};
// Unavailable, with the reason: no driver.
StatusOr<GpuMachine> DescribeMachine();

// Copies between memories, in GB/s (1e9 bytes copied a second): [from][to]; index gpus.size() is page-locked memory of the host. Within one
// memory every byte is read and written, and counted once. `bytes` a copy; devices whose memory does not suffice give 0.
StatusOr<std::vector<std::vector<double>>> MeasureCopies(const GpuMachine& machine, std::int64_t bytes);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_MACHINE_H_
