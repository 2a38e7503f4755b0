// What a kernel finds wrong with its data: a token outside the vocabulary. The host learns of it when it waits for the stream.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_FAULT_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_FAULT_H_

#include "runtime/core/status.h"

namespace lycia::cuda {

enum class Fault : int { kToken, kLabel, kPosition };
inline constexpr int kNumFaults = 3;

// One for each kind, in page-locked memory. Of several threads that write, one stays.
struct alignas(16) FaultWord {
  int happened = 0;
  int value = 0;
  int place = 0;  // in the micro-batch: sample times length plus position
  int limit = 0;  // of what is allowed
};

// InvalidArgument with the numbers, OK where nothing happened.
Status FaultStatus(Fault fault, const FaultWord& word);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_FAULT_H_
