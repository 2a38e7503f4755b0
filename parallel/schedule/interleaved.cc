// Interleaved 1F1B (Megatron-LM; Narayanan et al. 2021): one pipe of v D stages that goes round the workers v times, so that it fills and
// drains in steps of 1/v.
//
//   interleaved, 2 workers, 4 micro-batches, 1 pipe (2F3: stage 2)
//   makespan 13.5, bubble 11.1 %, peak activations 1.5 to 2.5, 1 copy of the weights
//   worker 0 | 0F0 0F1 2F0 2F1 0F2 .   2B0---- 0F3 2B1---- 2F2 0B0---- 2F3 0B1---- .   2B2---- .   2B3---- 0B2---- 0B3----
//   worker 1 | .   1F0 1F1 3F0 3B0---- 3F1 3B1---- 1F2 1B0---- 1F3 1B1---- 3F2 3B2---- 3F3 3B3---- 1B2---- 1B3---- .   .
//
// Worker r holds stages c D + r, c < v. It takes D micro-batches through its first stage, the same D through its second, and so on: its
// k-th forward and its k-th backward, k = 0 .. N v - 1, are of
//   micro-batch g D + k mod D,   g = k / (v D),   c = (k mod v D) / D, for backwards v - 1 - c.
// It runs min(N v, 2 (D - 1 - r) + (v - 1) D) forwards ahead, then one forward, one backward; at N = D all forwards come first, as in
// Megatron. v = 1 is 1F1B, for any N.
//
// Makespan (N + (D - 1)/v)(F + B). Peak activations on worker r: (v D + D - 1 - 2 r)/v for N >= 2D, D for N = D.
#include <algorithm>

#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {
namespace {

Status CheckSizes(int D, int N, int v) {
  if (v == 1 || N % D == 0) return OkStatus();
  const int lower = N / D * D;
  if (lower == 0) {
    return InvalidArgument("interleaved takes micro-batches in groups of one per worker: N must be a multiple of D = ", D, ", got ", N,
                           "; use ", D, ", or 1f1b, which takes any number");
  }
  return InvalidArgument("interleaved takes micro-batches in groups of one per worker: N must be a multiple of D = ", D, ", got ", N,
                         "; use ", lower, " or ", lower + D, ", or 1f1b, which takes any number");
}

}  // namespace

StatusOr<Schedule> Interleaved(const GenerateOptions& options) {
  const int D = options.workers;
  const int N = options.micro_batches;
  const int v = options.chunks == 0 ? 2 : options.chunks;
  LYCIA_RETURN_IF_ERROR(CheckFixed("interleaved", options, {.chunks = v}));
  LYCIA_RETURN_IF_ERROR(CheckSizes(D, N, v));

  Schedule schedule = LoopedPipe("interleaved", options, v);
  for (int worker = 0; worker < D; ++worker) {
    auto& program = schedule.program[worker];
    const auto add = [&](Op op, int k) {
      const int chunk = k % (v * D) / D;
      const int stage = (op == Op::kForward ? chunk : v - 1 - chunk) * D + worker;
      program.push_back(Compute(op, 0, stage, k / (v * D) * D + k % D));
    };
    const int ahead = v == 1 ? D - 1 - worker : 2 * (D - 1 - worker) + (v - 1) * D;
    const int warm_up = v > 1 && N == D ? N * v : std::min(ahead, N * v);
    for (int k = 0; k < warm_up; ++k) add(Op::kForward, k);
    for (int k = 0; k < N * v - warm_up; ++k) {
      add(Op::kForward, warm_up + k);
      add(Op::kBackward, k);
    }
    for (int k = N * v - warm_up; k < N * v; ++k) add(Op::kBackward, k);
  }
  return schedule;
}

}  // namespace lycia::schedule
