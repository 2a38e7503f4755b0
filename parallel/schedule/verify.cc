#include "parallel/schedule/verify.h"

#include <algorithm>
#include <vector>

namespace lycia::schedule {

Status Verify(const Schedule& schedule, const VerifyOptions& options) {
  LYCIA_RETURN_IF_ERROR(VerifyShape(schedule));
  LYCIA_RETURN_IF_ERROR(VerifyCompute(schedule, options.training));
  LYCIA_RETURN_IF_ERROR(VerifyMemory(schedule, options));
  if (!options.completed) return OkStatus();
  LYCIA_RETURN_IF_ERROR(VerifyLoads(schedule));
  LYCIA_RETURN_IF_ERROR(VerifySync(schedule, options.training));
  LYCIA_RETURN_IF_ERROR(VerifyMessages(schedule));
  const int credits = std::max(options.credits, schedule.credits);
  LYCIA_RETURN_IF_ERROR(Replay(schedule, credits, Matching::kByChannel));
  return Replay(schedule, credits, Matching::kByPair);
}

Status VerifyShape(const Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  const auto fail = [&](const auto&... parts) { return InvalidArgument("schedule ", schedule.name, ": ", parts...); };
  if (shape.workers < 1 || shape.chunks < 1 || shape.pipes < 1 || shape.micro_batches < 1 || shape.stages != shape.workers * shape.chunks) {
    return fail("workers ", shape.workers, ", chunks ", shape.chunks, ", stages ", shape.stages, ", pipes ", shape.pipes,
                ", micro-batches ", shape.micro_batches, " are no shape: all are at least 1 and stages = workers * chunks");
  }
  if (static_cast<int>(schedule.worker_of.size()) != shape.pipes)
    return fail("placement of ", schedule.worker_of.size(), " pipes, not ", shape.pipes);
  for (int pipe = 0; pipe < shape.pipes; ++pipe) {
    if (static_cast<int>(schedule.worker_of[pipe].size()) != shape.stages) return fail("pipe ", pipe, " places not all stages");
    for (const int worker : schedule.worker_of[pipe]) {
      if (worker < 0 || worker >= shape.workers) return fail("pipe ", pipe, " places a stage on worker ", worker, " of ", shape.workers);
    }
  }
  if (static_cast<int>(schedule.pipe_of_micro_batch.size()) != shape.micro_batches) return fail("not every micro-batch has a pipe");
  for (const int pipe : schedule.pipe_of_micro_batch) {
    if (pipe < 0 || pipe >= shape.pipes) return fail("a micro-batch is in pipe ", pipe, " of ", shape.pipes);
  }
  if (static_cast<int>(schedule.program.size()) != shape.workers)
    return fail(schedule.program.size(), " programs for ", shape.workers, " workers");
  return OkStatus();
}

}  // namespace lycia::schedule
