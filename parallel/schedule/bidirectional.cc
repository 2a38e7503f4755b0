#include "parallel/schedule/bidirectional.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/core/status.h"

namespace lycia::schedule {
namespace {

Status CheckSizes(const std::string& name, int D, int pipes) {
  if (D == 1) return InvalidArgument(name, " needs an even number of stages, got 1; use 2, or 1f1b, which takes any number");
  if (D % 2 != 0) {
    return InvalidArgument(name, " needs an even number of stages, got ", D, "; use ", D - 1, " or ", D + 1,
                           ", or 1f1b, which takes any number");
  }
  if (pipes >= 2 && pipes % 2 == 0 && (D / 2) % (pipes / 2) == 0) return OkStatus();
  std::string valid;
  for (int f = 1; f <= D / 2; ++f) {
    if ((D / 2) % f == 0) absl::StrAppend(&valid, valid.empty() ? "" : ", ", 2 * f);
  }
  return InvalidArgument(name, " with ", D, " stages takes 2f pipes with f a divisor of ", D / 2, ", got ", pipes, "; use one of ", valid);
}

}  // namespace

StatusOr<Schedule> Bidirectional(std::string name, const GenerateOptions& options) {
  const int D = options.workers;
  const int pipes = options.pipes == 0 ? 2 : options.pipes;
  LYCIA_RETURN_IF_ERROR(CheckFixed(name, options, {.pipes = 0}));
  LYCIA_RETURN_IF_ERROR(CheckSizes(name, D, pipes));
  const int f = pipes / 2;
  Schedule schedule = OnePipe(std::move(name), options);
  schedule.shape.pipes = pipes;
  schedule.worker_of.assign(pipes, std::vector<int>(D));
  for (int i = 0; i < f; ++i) {
    for (int stage = 0; stage < D; ++stage) {
      schedule.worker_of[i][stage] = (stage + i * (D / f)) % D;
      schedule.worker_of[f + i][stage] = (D - 1 - stage + i * (D / f)) % D;
    }
  }
  schedule.pipe_of_micro_batch = PipeOfMicroBatch(D, pipes, options.micro_batches);
  return schedule;
}

}  // namespace lycia::schedule
