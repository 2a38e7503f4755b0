// Evaluation: forwards alone, on the placement of a training schedule.
//
//   forward-only on chimera, 4 workers, 8 micro-batches, 2 pipes (up in small letters)
//   makespan 10, bubble 20.0 %, peak activations 1, 2 copies of the weights
//   worker 0 | F0 F1 .  f2 F4 f3 F5 f6 .  f7
//   worker 1 | .  F0 f2 F1 f3 F4 f6 F5 f7 .
//   worker 2 | .  f2 F0 f3 F1 f6 F4 f7 F5 .
//   worker 3 | f2 f3 .  F0 f6 F1 f7 F4 .  F5
//
// A worker that holds c stages takes every pipe's micro-batches c slots apart: slot(F, s) = s + c j for the pipe's j-th micro-batch,
// and its program is its instructions by slot, lower pipes first in a tie. Slots grow along every dependency, so no order of ties can
// deadlock. One pipe: makespan (N + D - 1) F. Chimera's two: (N + D - 2) F for even N. Peak activations 1.
#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/generators.h"
#include "runtime/core/check.h"

namespace lycia::schedule {

Schedule ForwardOnly(const Schedule& like, int micro_batches) {
  LYCIA_CHECK_GE(micro_batches, 1);
  Schedule schedule;
  schedule.name = absl::StrCat("forward-only on ", like.name);
  schedule.shape = like.shape;
  schedule.shape.micro_batches = micro_batches;
  schedule.worker_of = like.worker_of;
  const int pipes = like.shape.pipes;
  schedule.pipe_of_micro_batch = PipeOfMicroBatch(pipes == 1 ? 1 : like.shape.workers, pipes, micro_batches);
  schedule.program.resize(like.shape.workers);

  const int step = pipes * like.shape.chunks;
  std::vector<std::vector<std::pair<int, Instruction>>> slots(like.shape.workers);  // [worker]
  std::vector<int> injected(pipes, 0);
  for (int m = 0; m < micro_batches; ++m) {
    const int pipe = schedule.pipe_of_micro_batch[m];
    const int j = injected[pipe]++;
    for (int stage = 0; stage < like.shape.stages; ++stage) {
      slots[like.worker_of[pipe][stage]].emplace_back(stage + step * j, Compute(Op::kForward, pipe, stage, m));
    }
  }
  for (int worker = 0; worker < like.shape.workers; ++worker) {
    std::sort(slots[worker].begin(), slots[worker].end(), [](const auto& a, const auto& b) {
      return std::tie(a.first, a.second.pipe, a.second.stage) < std::tie(b.first, b.second.pipe, b.second.stage);
    });
    for (const auto& [slot, instruction] : slots[worker]) schedule.program[worker].push_back(instruction);
  }
  return schedule;
}

}  // namespace lycia::schedule
