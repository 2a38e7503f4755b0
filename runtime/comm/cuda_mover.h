// The mover of ranks that share GPUs: copies from memory to memory of the devices, sums by kernels in rank order.
//
// One stream a device, and each move starts after the one before it, whichever device that was on: the sequence the communication thread
// asked for. Host memory that is not page-locked cannot take part in that: its moves wait for the sequence and happen at once.
#ifndef LYCIA_RUNTIME_COMM_CUDA_MOVER_H_
#define LYCIA_RUNTIME_COMM_CUDA_MOVER_H_

#include <memory>
#include <vector>

#include "runtime/comm/mover.h"

namespace lycia::cuda {

// A kernel launch costs microseconds, in which a device moves tens of megabytes.
inline constexpr std::int64_t kDevicePieceBytes = std::int64_t{64} << 20;

// `ordinals`: the devices, each once. Unavailable: a device is missing, or two of them cannot read each other's memory.
StatusOr<std::unique_ptr<Mover>> NewMover(const std::vector<int>& ordinals, std::int64_t piece_bytes = kDevicePieceBytes);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_COMM_CUDA_MOVER_H_
