// What several keys say together: sizes that must divide, ranks that must fit, folders that must be writable.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/config.h"
#include "parallel/mesh/mesh.h"
#include "parallel/schedule/generators.h"

namespace lycia {
namespace {

// The divisor of `whole` that is nearest to `wanted`; the smaller one of two.
std::int64_t NearestDivisor(std::int64_t whole, std::int64_t wanted) {
  std::int64_t best = 1;
  for (std::int64_t d = 1; d * d <= whole; ++d) {
    if (whole % d != 0) continue;
    for (const std::int64_t divisor : {d, whole / d}) {
      if (std::abs(divisor - wanted) < std::abs(best - wanted)) best = divisor;
    }
  }
  return best;
}

Status CheckModel(const ModelConfig& model) {
  if (model.hidden % model.heads != 0) {
    return InvalidArgument("model.heads = ", model.heads, " does not divide model.hidden = ", model.hidden,
                           "; use heads = ", NearestDivisor(model.hidden, model.heads),
                           " or hidden = ", (model.hidden + model.heads - 1) / model.heads * model.heads);
  }
  if (model.vocab < 256) {
    return InvalidArgument("model.vocab = ", model.vocab, " is too small for bytes; use 256 or more, or 0 to take it from the data");
  }
  return OkStatus();
}

Status CheckMesh(int ranks, ParallelConfig& parallel) {
  if (parallel.data == 0) {
    if (ranks % parallel.stages != 0) {
      const std::int64_t whole = ranks / parallel.stages;
      return InvalidArgument(ranks, " ranks do not make whole replicas of parallel.stages = ", parallel.stages, "; start ",
                             whole > 0 ? absl::StrCat(whole * parallel.stages, " or ") : "", (whole + 1) * parallel.stages,
                             " ranks, or use stages = ", NearestDivisor(ranks, parallel.stages));
    }
    parallel.data = ranks / parallel.stages;
  }
  if (parallel.stages * parallel.data != ranks) {
    return InvalidArgument("parallel.stages = ", parallel.stages, " times parallel.data = ", parallel.data, " needs ",
                           parallel.stages * parallel.data, " ranks, but there are ", ranks, "; start ", parallel.stages * parallel.data,
                           " ranks, or use data = 0 (ranks / stages)");
  }
  Mesh::Spec spec{.pipeline = static_cast<int>(parallel.stages), .data = static_cast<int>(parallel.data)};
  if (!parallel.order.empty()) spec.order = parallel.order;
  return Annotate(Mesh::Create(spec, ranks).status(), "parallel.order");
}

Status CheckPartition(const Config& config) {
  const std::vector<std::int64_t>& blocks = config.parallel.partition;
  if (blocks.empty()) return OkStatus();
  const std::int64_t sum = std::accumulate(blocks.begin(), blocks.end(), std::int64_t{0});
  if (static_cast<std::int64_t>(blocks.size()) == config.parallel.stages && sum == config.model.layers) return OkStatus();
  return InvalidArgument("parallel.partition = [", absl::StrJoin(blocks, ", "), "] gives ", sum, " blocks to ", blocks.size(),
                         " stages, but model.layers = ", config.model.layers, " and parallel.stages = ", config.parallel.stages,
                         "; correct the list, or use \"auto\"");
}

Status CheckBatch(const Config& config) {
  const std::int64_t batch = config.train.batch, micro_batch = config.train.micro_batch, data = config.parallel.data;
  const std::int64_t unit = micro_batch * data;
  if (batch % unit == 0) return OkStatus();
  return InvalidArgument("train.batch = ", batch, " is not a multiple of train.micro_batch = ", micro_batch, " times ", data,
                         data == 1 ? " replica" : " replicas", " = ", unit,
                         "; use batch = ", batch / unit > 0 ? absl::StrCat(batch / unit * unit, " or ") : "", (batch / unit + 1) * unit);
}

Status CheckTraining(const TrainConfig& train) {
  if (train.min_lr > train.lr) {
    return InvalidArgument("train.min_lr = ", train.min_lr, " is above train.lr = ", train.lr, "; use min_lr = ", train.lr / 10,
                           " or less");
  }
  if (train.warmup_steps > train.steps) {
    return InvalidArgument("train.warmup_steps = ", train.warmup_steps, " is more than train.steps = ", train.steps, "; use at most ",
                           train.steps);
  }
  return OkStatus();
}

// The generator knows what it can take.
Status CheckSchedule(const Config& config, ParallelConfig& parallel) {
  const schedule::GenerateOptions options{.workers = static_cast<int>(parallel.stages),
                                          .micro_batches = static_cast<int>(MicroBatchesPerReplica(config)),
                                          .pipes = static_cast<int>(parallel.pipes)};
  const StatusOr<schedule::Schedule> generated = schedule::Generate(parallel.schedule, options);
  if (!generated.ok()) {
    return Annotate(generated.status(), absl::StrCat("parallel.stages = ", parallel.stages, ", parallel.pipes = ", parallel.pipes));
  }
  parallel.pipes = generated->shape.pipes;
  return OkStatus();
}

}  // namespace

Status ResolveConfig(int ranks, Config& config) {
  if (config.model.vocab == 0) config.model.vocab = 256;
  if (config.model.ffn == 0) config.model.ffn = 4 * config.model.hidden;
  LYCIA_RETURN_IF_ERROR(CheckModel(config.model));
  LYCIA_RETURN_IF_ERROR(CheckTraining(config.train));
  LYCIA_RETURN_IF_ERROR(CheckMesh(ranks, config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckPartition(config));
  LYCIA_RETURN_IF_ERROR(CheckBatch(config));
  LYCIA_RETURN_IF_ERROR(CheckSchedule(config, config.parallel));
  if (config.output.dir.empty()) return InvalidArgument("output.dir is empty; name a folder for the run");
  if (config.output.metrics.find('/') != std::string::npos) {
    return InvalidArgument("output.metrics = '", config.output.metrics, "' must be a file name inside output.dir, without '/'");
  }
  if (config.output.trace_step > config.train.steps) {
    return InvalidArgument("output.trace_step = ", config.output.trace_step, " is never reached; train.steps = ", config.train.steps);
  }
  if (config.generate.tokens > 0 && config.generate.prompt.empty()) {
    return InvalidArgument("generate.prompt is empty; give at least one character, e.g. \"\\n\", or generate.tokens = 0 for no sample");
  }
  return OkStatus();
}

std::int64_t MicroBatchesPerReplica(const Config& config) { return config.train.batch / (config.train.micro_batch * config.parallel.data); }

Status PrepareOutputFolder(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) return InvalidArgument("output folder ", dir, " cannot be made: ", error.message(), "; give another one with output.dir");
  const std::string probe = dir + "/.writable";
  std::FILE* file = std::fopen(probe.c_str(), "w");
  const bool written = file != nullptr && std::fputc('x', file) != EOF && std::fflush(file) == 0;
  const int reason = errno;
  if (file != nullptr) std::fclose(file);
  std::remove(probe.c_str());
  if (written) return OkStatus();
  return InvalidArgument("output folder ", dir, " cannot be written: ", std::strerror(reason), "; give another one with output.dir");
}

}  // namespace lycia
