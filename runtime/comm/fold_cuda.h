// The left fold of fold.h on a GPU.
#ifndef LYCIA_RUNTIME_COMM_FOLD_CUDA_H_
#define LYCIA_RUNTIME_COMM_FOLD_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/comm/fold.h"
#include "runtime/core/dtype.h"

namespace lycia::cuda {

// Most operands of one sum: their addresses are arguments of the kernel, which has room for 4 KiB of them.
inline constexpr int kMostSources = 256;

struct FoldArgs {
  const void* sources[kMostSources] = {};
  int count = 0;
  DType dtype = DType::kF32;
  Fold fold = Fold::kSum;
  bool accumulate = false;
  std::int64_t elements = 0;
  void* out = nullptr;
};

// Enqueues out (+)= the left fold of the sources, all of them memory the stream's device reaches. The bits of LeftFold, but for the payload
// of a NaN: a GPU's sums make one NaN only.
cudaError_t LaunchFold(cudaStream_t stream, int multiprocessors, const FoldArgs& args);

// Elements that one thread takes at a time: as many as fill 16 bytes where every operand is aligned to that, else 1.
int FoldWidth(const FoldArgs& args);
// Blocks of kFoldThreads threads: enough to fill the device, no more than there is work for.
inline constexpr int kFoldThreads = 256;
int FoldBlocks(std::int64_t elements, int width, int multiprocessors);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_COMM_FOLD_CUDA_H_
