#include "launch/user_schedule.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "launch/schedule_file.h"
#include "parallel/schedule/simulate.h"

namespace lycia {

StatusOr<schedule::Schedule> ScheduleFromCsv(const std::string& csv, const std::string& path, int workers, int micro_batches) {
  StatusOr<schedule::Schedule> schedule = ScheduleOfText(csv, path);
  if (!schedule.ok()) {
    const Status first = FirstLine(schedule.status(), "parallel.schedule_file");
    return InvalidArgument(std::string(first.message()), " (`lycia schedule --from=", path, "` shows the place)");
  }
  if (schedule->shape.workers != workers) {
    return InvalidArgument("parallel.schedule_file = ", path, " has ", schedule->shape.workers,
                           " rows, one for each worker, but parallel.stages = ", workers,
                           "; use parallel.stages = ", schedule->shape.workers);
  }
  if (schedule->shape.micro_batches != micro_batches) {
    return InvalidArgument("parallel.schedule_file = ", path, " has ", schedule->shape.micro_batches, " micro-batches, but a replica has ",
                           micro_batches, " in a step (train.batch / (train.micro_batch * parallel.data)); change the batch, or the file");
  }
  return schedule;
}

Status FirstLine(const Status& status, const std::string& name) {
  if (status.ok()) return status;
  const std::string message(status.message());
  return InvalidArgument(name, ": ", message.substr(0, message.find('\n')));
}

Status CheckActivations(const schedule::Schedule& schedule, int max_activations) {
  const std::vector<double> peaks = schedule::PeakActivations(schedule);
  const auto most = std::max_element(peaks.begin(), peaks.end());
  if (max_activations == 0 || *most <= max_activations) return OkStatus();
  return InvalidArgument("schedule ", schedule.name, " keeps ", *most, " stages' activations on worker ", most - peaks.begin(),
                         ", but parallel.max_activations = ", max_activations,
                         "; raise that, or take a parallel.schedule that keeps fewer (`lycia schedule compare`), or \"auto\"");
}

namespace {

std::int64_t PartsOf(const schedule::Schedule& schedule) {
  std::int64_t parts = 1;
  for (const auto& program : schedule.program) {
    for (const schedule::Instruction& instruction : program) parts = std::lcm(parts, std::int64_t{instruction.parts});
  }
  return parts;
}

}  // namespace

Status CheckParts(const schedule::Schedule& schedule, std::int64_t samples) {
  const std::int64_t parts = PartsOf(schedule);
  if (samples % parts == 0) return OkStatus();
  return InvalidArgument("schedule ", schedule.name, " runs micro-batches in ", parts, " parts, but train.micro_batch = ", samples,
                         " is no multiple of that; use train.micro_batch = ", (samples + parts - 1) / parts * parts,
                         ", or another parallel.schedule");
}

Status CheckGridParts(const schedule::Schedule& schedule, std::int64_t grid_ranks) {
  const std::int64_t parts = PartsOf(schedule);
  if (grid_ranks == 1 || parts == 1) return OkStatus();
  return InvalidArgument("schedule ", schedule.name, " runs micro-batches in ", parts,
                         " parts, which a tensor grid cannot (the tokens of a part do not lie together on one rank); use another "
                         "parallel.schedule, or parallel.x = y = z = 1");
}

}  // namespace lycia
