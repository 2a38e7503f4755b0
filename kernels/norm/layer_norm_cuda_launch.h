// How the CUDA norms that work row by row are launched: pure host functions with a reason at each rejection.
#ifndef LYCIA_KERNELS_NORM_LAYER_NORM_CUDA_LAUNCH_H_
#define LYCIA_KERNELS_NORM_LAYER_NORM_CUDA_LAUNCH_H_

#include <cstdint>

#include "runtime/core/status.h"

namespace lycia::cuda {

struct NormProblem {
  std::int64_t rows = 0, cols = 0;
  int element_bytes = 4;  // 2: bf16, 4: f32, 8: f64
  int alignment = 16;     // bytes; of the least aligned operand
  int multiprocessors = 132;
};

// Kernels that work row by row (forward, input gradient): a row stays in the registers of its threads, so that it is read once.
struct RowLaunch {
  int vector = 1;  // elements of one load
  int threads_per_row = 32;
  int rows_per_block = 1;

  std::int64_t blocks(const NormProblem& problem) const { return (problem.rows + rows_per_block - 1) / rows_per_block; }
  bool operator==(const RowLaunch&) const = default;
};

// Loads that one thread keeps of a row: 4 of 16 bytes are 16 registers; the input gradient keeps two operands, 32, and stays below the 64
// registers that 1,024 threads leave each other.
inline constexpr int kLoadsPerThread = 4;
inline constexpr int kVectorBytes = 16;  // the widest load
// Eight numbers of bf16 are eight registers each once they are widened: such threads get 128.
constexpr int MaxThreadsPerRow(int vector) { return vector >= 8 ? 512 : 1024; }

// nullptr if `launch` is right for the problem, else the reason.
const char* Reject(const NormProblem& problem, const RowLaunch& launch);
// The first that is not rejected: widest loads, then fewest threads a row, then most rows a block. InvalidArgument if a row is too long.
StatusOr<RowLaunch> ChooseRowLaunch(const NormProblem& problem);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_NORM_LAYER_NORM_CUDA_LAUNCH_H_
