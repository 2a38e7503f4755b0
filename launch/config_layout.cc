#include "launch/config_layout.h"

#include <fstream>
#include <numeric>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/nearest_divisor.h"
#include "launch/user_schedule.h"
#include "parallel/mesh/mesh.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/generators.h"

namespace lycia {
namespace {

// "parallel.stages = 2 times the tensor grid 1 x 2 x 1", of one replica.
std::string ReplicaText(const ParallelConfig& parallel) {
  std::string text = absl::StrCat("parallel.stages = ", parallel.stages);
  if (parallel.x * parallel.y * parallel.z > 1) {
    absl::StrAppend(&text, " times the tensor grid parallel.x, y, z = ", parallel.x, " x ", parallel.y, " x ", parallel.z);
  }
  return text;
}

Status CheckMesh(int ranks, ParallelConfig& parallel) {
  const std::int64_t grid = parallel.x * parallel.y * parallel.z, replica = parallel.stages * grid;
  if (parallel.data == 0) {
    if (ranks % replica != 0) {
      const std::int64_t whole = ranks / replica;
      return InvalidArgument(ranks, " ranks do not make whole replicas of ", ReplicaText(parallel), "; start ",
                             whole > 0 ? absl::StrCat(whole * replica, " or ") : "", (whole + 1) * replica, " ranks",
                             ranks % grid == 0 ? absl::StrCat(", or use stages = ", NearestDivisor(ranks / grid, parallel.stages)) : "");
    }
    parallel.data = ranks / replica;
  }
  if (replica * parallel.data != ranks) {
    return InvalidArgument(ReplicaText(parallel), " times parallel.data = ", parallel.data, " needs ", replica * parallel.data,
                           " ranks, but there are ", ranks, "; start ", replica * parallel.data,
                           " ranks, or use data = 0 (ranks / (stages x y z))");
  }
  Mesh::Spec spec{.pipeline = static_cast<int>(parallel.stages),
                  .data = static_cast<int>(parallel.data),
                  .x = static_cast<int>(parallel.x),
                  .y = static_cast<int>(parallel.y),
                  .z = static_cast<int>(parallel.z)};
  if (!parallel.order.empty()) spec.order = parallel.order;
  return Annotate(Mesh::Create(spec, ranks).status(), "parallel.order");
}

// stages: of the schedule.
Status CheckPartition(const Config& config, std::int64_t stages) {
  const std::vector<std::int64_t>& blocks = config.parallel.partition;
  if (blocks.empty() || !config.model.reads_text()) return OkStatus();  // layers of images are counted where they are known
  if (stages == 0) {
    return InvalidArgument(
        "parallel.partition needs to know the number of stages, which parallel.schedule = \"auto\" chooses; use "
        "partition = \"auto\", or name the schedule");
  }
  const std::int64_t sum = std::accumulate(blocks.begin(), blocks.end(), std::int64_t{0});
  if (static_cast<std::int64_t>(blocks.size()) == stages && sum == config.model.layers) return OkStatus();
  return InvalidArgument("parallel.partition = [", absl::StrJoin(blocks, ", "), "] gives ", sum, " blocks to ", blocks.size(),
                         " stages, but model.layers = ", config.model.layers, " and there are ", stages,
                         " stages (parallel.stages = ", config.parallel.stages, " times parallel.chunks = ", config.parallel.chunks,
                         "); correct the list, or use \"auto\"");
}

Status CheckBatch(const Config& config) {
  const std::int64_t batch = config.train.batch, micro_batch = config.train.micro_batch, data = config.parallel.data;
  const std::int64_t unit = micro_batch * data;
  if (batch % unit == 0) return OkStatus();
  return InvalidArgument("train.batch = ", batch, " is not a multiple of train.micro_batch = ", micro_batch, " times ", data,
                         data == 1 ? " replica" : " replicas", " = ", unit,
                         "; use batch = ", batch / unit > 0 ? absl::StrCat(batch / unit * unit, " or ") : "", (batch / unit + 1) * unit);
}

// Costs to plan by.
Status CheckCosts(const ParallelConfig& parallel) {
  if (!parallel.cost.empty()) {
    if (parallel.device == "emulated") {
      return InvalidArgument("parallel.cost = \"", parallel.cost,
                             "\" is for a real device; an emulated one is planned by what it takes, emulate.cost");
    }
    return Annotate(schedule::ParseCosts(parallel.cost).status(), "parallel.cost");
  }
  for (const auto& [key, value] : {std::pair{"latency", parallel.latency}, std::pair{"transmit", parallel.transmit},
                                   std::pair{"sync", parallel.sync}, std::pair{"update", parallel.update}}) {
    if (value != 0) {
      return InvalidArgument("parallel.", key, " = ", value, " goes with parallel.cost, which says what compute takes; give both, or none");
    }
  }
  return OkStatus();
}

// A size that the file fixes and a key contradicts.
Status CheckFileSize(const std::string& file, const char* key, std::int64_t asked, int has) {
  if (asked == 0 || asked == has) return OkStatus();
  return InvalidArgument("parallel.schedule_file = ", file, " has ", key, " = ", has, ", but parallel.", key, " = ", asked,
                         "; leave that out");
}

// The compute instructions of the file's schedule.
StatusOr<schedule::Schedule> ReadSchedule(const Config& config, ParallelConfig& parallel) {
  std::ifstream file(parallel.schedule_file, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return InvalidArgument("parallel.schedule_file = ", parallel.schedule_file, " is missing, empty or cannot be read");
  }
  parallel.schedule_csv = text.str();
  LYCIA_ASSIGN_OR_RETURN(schedule::Schedule schedule,
                         ScheduleFromCsv(parallel.schedule_csv, parallel.schedule_file, static_cast<int>(parallel.stages),
                                         static_cast<int>(MicroBatchesPerReplica(config))));
  LYCIA_RETURN_IF_ERROR(CheckFileSize(parallel.schedule_file, "pipes", parallel.pipes, schedule.shape.pipes));
  LYCIA_RETURN_IF_ERROR(CheckFileSize(parallel.schedule_file, "chunks", parallel.chunks, schedule.shape.chunks));
  return schedule;
}

// The generator knows what it can take. `stages`: of the schedule, 0 where only the planner knows.
Status CheckSchedule(const Config& config, ParallelConfig& parallel, std::int64_t* stages) {
  *stages = 0;
  if (parallel.schedule_file.empty() && parallel.schedule == "auto") return OkStatus();
  StatusOr<schedule::Schedule> schedule = schedule::Schedule{};
  if (!parallel.schedule_file.empty()) {
    schedule = ReadSchedule(config, parallel);
    if (!schedule.ok()) return schedule.status();
  } else {
    schedule = schedule::Generate(parallel.schedule, {.workers = static_cast<int>(parallel.stages),
                                                      .micro_batches = static_cast<int>(MicroBatchesPerReplica(config)),
                                                      .pipes = static_cast<int>(parallel.pipes),
                                                      .chunks = static_cast<int>(parallel.chunks),
                                                      .max_activations = static_cast<int>(parallel.max_activations)});
    if (!schedule.ok()) {
      return Annotate(schedule.status(), absl::StrCat("parallel.stages = ", parallel.stages, ", parallel.pipes = ", parallel.pipes,
                                                      ", parallel.chunks = ", parallel.chunks));
    }
  }
  parallel.pipes = schedule->shape.pipes;
  parallel.chunks = schedule->shape.chunks;
  *stages = schedule->shape.stages;
  LYCIA_RETURN_IF_ERROR(CheckActivations(*schedule, static_cast<int>(parallel.max_activations)));
  LYCIA_RETURN_IF_ERROR(CheckGridParts(*schedule, parallel.x * parallel.y * parallel.z));
  return CheckParts(*schedule, config.train.micro_batch);
}

}  // namespace

Status ResolveLayout(int ranks, Config& config) {
  LYCIA_RETURN_IF_ERROR(CheckCosts(config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckMesh(ranks, config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckBatch(config));
  std::int64_t stages = 0;
  LYCIA_RETURN_IF_ERROR(CheckSchedule(config, config.parallel, &stages));
  return CheckPartition(config, stages);
}

std::int64_t MicroBatchesPerReplica(const Config& config) { return config.train.batch / (config.train.micro_batch * config.parallel.data); }

}  // namespace lycia
