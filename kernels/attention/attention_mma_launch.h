// How the attention on the tensor cores of sm_80 and later is cut and launched: pure functions, tested without a GPU; the kernels call the
// same ones.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_LAUNCH_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_LAUNCH_H_

#include <cstdint>

#include "kernels/attention/attention.h"

namespace lycia::cuda {

// Shared memory of a block: what every chip has without asking, and the most on the smallest (8.6 and 8.9; 163 KiB on 8.0, 227 on 9.0).
inline constexpr int kMmaSmallShared = 48 * 1024, kMmaMostShared = 99 * 1024;

// One kernel instance, in elements. Every warp has 16 rows of the results: queries in the forward and for dq, keys for dk and dv.
struct MmaTiling {
  int head_dim = 128;  // of the tiles; smaller heads are filled up with zeros
  int rows = 64;       // 16 of each warp
  int step = 64;       // of the other side at once

  constexpr int threads() const { return rows / 16 * 32; }
  constexpr int row_bytes() const { return rows * head_dim * 2; }
  constexpr int step_bytes() const { return step * head_dim * 2; }
  // Tiles of q, keys and values.
  constexpr int forward_bytes() const { return row_bytes() + 2 * step_bytes(); }
  // Of q and dout beside keys and values, whichever are rows; and log_sum_exp and delta of a step.
  constexpr int backward_bytes() const { return 2 * row_bytes() + 2 * step_bytes() + 2 * step * 4; }
  bool operator==(const MmaTiling&) const = default;
};
// dk and dv are twice as many sums as dq or out: 64 queries of 128 features at once would not leave room for their scores in registers.
inline constexpr MmaTiling kMma64{.head_dim = 64, .rows = 64, .step = 64}, kMma128{.head_dim = 128, .rows = 64, .step = 64};
inline constexpr MmaTiling kMmaKeys64{.head_dim = 64, .rows = 64, .step = 64}, kMmaKeys128{.head_dim = 128, .rows = 64, .step = 32};

// nullptr if the kernels serve the problem, else the reason.
const char* RejectMma(const AttentionProblem& problem);
// The same of where a tensor lies.
const char* RejectMmaView(const ConstHeadsView& view);

// The instance of the forward and of dq for a problem that is not rejected, and that of dk and dv.
MmaTiling ChooseMmaTiling(const AttentionProblem& problem);
MmaTiling ChooseMmaKeysTiling(const AttentionProblem& problem);

// Scratch of the backward: delta, [B, H, T] f32.
std::int64_t MmaBackwardScratchBytes(const AttentionProblem& problem);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_LAUNCH_H_
