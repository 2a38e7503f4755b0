// What several keys say together: sizes that must divide, ranks that must fit, folders that must be writable.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bazel/build_config.h"
#include "launch/config.h"
#include "launch/user_schedule.h"
#include "parallel/mesh/mesh.h"
#include "parallel/optimizer/loss_scaler.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/generators.h"

namespace lycia {
namespace {

// The divisor of `whole` that is nearest to `wanted`; the smaller one of two.
std::int64_t NearestDivisor(std::int64_t whole, std::int64_t wanted) {
  std::int64_t best = 1;
  for (std::int64_t d = 1; d * d <= whole; ++d) {
    if (whole % d != 0) continue;
    for (const std::int64_t divisor : {d, whole / d}) {
      const std::int64_t off = std::abs(divisor - wanted), best_off = std::abs(best - wanted);
      if (off < best_off || (off == best_off && divisor < best)) best = divisor;
    }
  }
  return best;
}

// A model of images, and data that has some.
Status CheckImages(const Config& config) {
  const ModelConfig& model = config.model;
  if (config.parallel.device == "emulated" && (model.height == 0 || model.width == 0 || model.channels == 0 || model.classes == 0)) {
    return InvalidArgument("an emulated device opens no data that could tell the sizes of a model of kind ", model.kind,
                           "; give model.height, width, channels and classes");
  }
  const bool normed = model.kind != "vgg16";
  if (normed && config.train.micro_batch % model.norm_samples != 0) {
    return InvalidArgument("model.norm_samples = ", model.norm_samples, " does not divide train.micro_batch = ", config.train.micro_batch,
                           "; use norm_samples = ", NearestDivisor(config.train.micro_batch, model.norm_samples),
                           ", or another micro_batch");
  }
  return OkStatus();
}

Status CheckModel(const Config& config) {
  const ModelConfig& model = config.model;
  const bool images = !model.reads_text();
  if (images != (config.data.format != "text") && config.parallel.device != "emulated") {
    return InvalidArgument("model.kind = \"", model.kind, "\" reads ", images ? "images" : "text", ", but data.format = \"",
                           config.data.format, "\"; use ", images ? "idx, cifar10, cifar100 or generated" : "text", ", or another kind");
  }
  if (images) return CheckImages(config);
  if (model.hidden % model.heads != 0) {
    return InvalidArgument("model.heads = ", model.heads, " does not divide model.hidden = ", model.hidden,
                           "; use heads = ", NearestDivisor(model.hidden, model.heads),
                           " or hidden = ", (model.hidden + model.heads - 1) / model.heads * model.heads);
  }
  if (model.kv_heads != 0 && model.heads % model.kv_heads != 0) {
    return InvalidArgument("model.kv_heads = ", model.kv_heads, " does not divide model.heads = ", model.heads,
                           "; use kv_heads = ", NearestDivisor(model.heads, model.kv_heads), ", or 0 for as many as heads");
  }
  if (model.kind == "llama" && !model.rotary()) {
    return InvalidArgument("model.position = \"", model.position,
                           "\", but a model of kind llama has rotary positions; use \"rotary\" or \"auto\", or kind = \"gpt\"");
  }
  if (model.rotary() && model.hidden / model.heads % 2 != 0) {
    return InvalidArgument("model.position = \"rotary\" turns pairs of features, but model.hidden / model.heads = ", model.hidden, " / ",
                           model.heads, " = ", model.hidden / model.heads, " is odd; use hidden = ", model.hidden + model.heads,
                           " or other heads");
  }
  if (model.vocab < 256) {
    return InvalidArgument("model.vocab = ", model.vocab, " is too small for bytes; use 256 or more, or 0 to take it from the data");
  }
  return OkStatus();
}

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

Status CheckEmulation(const Config& config) {
  const ParallelConfig& parallel = config.parallel;
  if (parallel.x * parallel.y * parallel.z > 1) {
    return InvalidArgument("an emulated device computes nothing that a tensor grid could cut, but parallel.x, y, z = ", parallel.x, ", ",
                           parallel.y, ", ", parallel.z, "; use 1, 1, 1 with parallel.device = \"emulated\"");
  }
  LYCIA_RETURN_IF_ERROR(Annotate(schedule::ParseCosts(config.emulate.cost).status(), "emulate.cost"));
  if (config.checkpoint.resume) return InvalidArgument("an emulated device has no weights and so no checkpoint to resume from");
  if (!config.init.from.empty()) {
    return InvalidArgument("init.from = '", config.init.from, "' gives weights, which an emulated device does not have; leave it out");
  }
  if (config.output.trace_step > 0 && config.emulate.clock == "logical") {
    return InvalidArgument("output.trace_step = ", config.output.trace_step,
                           " records real time, which says nothing under emulate.clock = \"logical\"; use \"wall\"");
  }
  return OkStatus();
}

Status CheckReuse(const Config& config) {
  if (config.reuse.mode == "off") return OkStatus();
  const ParallelConfig& parallel = config.parallel;
  const char* instead = "; use reuse.mode = \"off\", or another layout";
  if (parallel.device == "emulated") return InvalidArgument("an emulated device has no rows that could repeat", instead);
  if (config.train.precision == "f16") {
    return InvalidArgument("reuse.mode = \"", config.reuse.mode,
                           "\" has no kernels for train.precision = \"f16\"; use \"bf16\", or reuse.mode = \"off\"");
  }
  if (parallel.device == "cuda" && !config.model.reads_text()) {
    return InvalidArgument("reuse.mode = \"", config.reuse.mode, "\" finds repeated patches of images on the CPU only; use reuse.mode = \"off\"",
                           ", or parallel.device = \"cpu\"");
  }
  if (parallel.x * parallel.y * parallel.z > 1) {
    return InvalidArgument("reuse.mode = \"", config.reuse.mode, "\" finds repeated rows where they are whole, but the tensor grid ",
                           parallel.x, " x ", parallel.y, " x ", parallel.z, " cuts them", instead);
  }
  return OkStatus();
}

Status CheckTransport(const ParallelConfig& parallel) {
  if (parallel.transport != "nccl" || parallel.device == "cuda") return OkStatus();
  return InvalidArgument("parallel.transport = \"nccl\" moves tensors of GPUs, but parallel.device = \"", parallel.device,
                         "\"; use \"auto\", or device = \"cuda\"");
}

// What there is on a GPU.
Status CheckCuda(const Config& config) {
  if (config.parallel.device == "cpu" && config.train.precision == "f16") {
    return InvalidArgument(
        "train.precision = \"f16\" is computed on GPUs only: processors multiply bf16, whose range needs no loss scaling; use \"bf16\", "
        "or parallel.device = \"cuda\"");
  }
  if (config.train.tf32 && (config.parallel.device != "cuda" || config.train.precision != "f32")) {
    return InvalidArgument("train.tf32 rounds the operands of f32 products on GPUs, but parallel.device = \"", config.parallel.device,
                           "\" and train.precision = \"", config.train.precision,
                           "\"; leave it out, or use parallel.device = \"cuda\" and train.precision = \"f32\"");
  }
  if (config.parallel.device != "cuda") return OkStatus();
  if constexpr (!kCudaEnabled) {
    return InvalidArgument("parallel.device = \"cuda\", but this build has no CUDA; install the toolkit and build again, or use \"cpu\"");
  }
  if (config.train.precision == "f64") {
    return InvalidArgument(
        "train.precision = \"f64\" is for proofs, which are made on the CPU; use \"f32\" or \"bf16\" with "
        "parallel.device = \"cuda\", or parallel.device = \"cpu\"");
  }
  return OkStatus();
}

Status CheckTraining(const TrainConfig& train) {
  if (train.precision == "f16" && train.update == "eager") {
    return InvalidArgument(
        "train.update = \"eager\" steps a stage before it is known whether a gradient of the model has overflowed, which "
        "train.precision = \"f16\" needs; use train.update = \"decided\", or \"bf16\"");
  }
  if (train.loss_scale > 0 && train.precision != "f16") {
    return InvalidArgument("train.loss_scale = ", train.loss_scale, " is of f16, and train.precision = \"", train.precision,
                           "\" needs none; leave it out, or use train.precision = \"f16\"");
  }
  if (train.loss_scale_min > train.loss_scale_initial || train.loss_scale_initial > LossScaler::kMost) {
    return InvalidArgument("train.loss_scale_initial = ", train.loss_scale_initial,
                           " is not between train.loss_scale_min = ", train.loss_scale_min, " and ", LossScaler::kMost,
                           "; use a power of two there, e.g. 65536");
  }
  if (train.update == "eager" && train.clip > 0) {
    return InvalidArgument("train.update = \"eager\" steps a stage before the gradient norm of the model is known, which train.clip = ",
                           train.clip, " needs; use train.clip = 0 or train.update = \"decided\"");
  }
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

Status ResolveConfig(int ranks, Config& config) {
  if (config.model.vocab == 0) config.model.vocab = 256;
  config.model.ffn = config.model.ffn_or_default();
  config.model.position = config.model.rotary() ? "rotary" : "learned";
  if (config.model.norm_samples == 0) config.model.norm_samples = config.train.micro_batch;
  LYCIA_RETURN_IF_ERROR(CheckModel(config));
  LYCIA_RETURN_IF_ERROR(config.parallel.device == "emulated" ? CheckEmulation(config) : CheckTraining(config.train));
  LYCIA_RETURN_IF_ERROR(CheckCuda(config));
  LYCIA_RETURN_IF_ERROR(CheckTransport(config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckReuse(config));
  LYCIA_RETURN_IF_ERROR(CheckCosts(config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckMesh(ranks, config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckBatch(config));
  std::int64_t stages = 0;
  LYCIA_RETURN_IF_ERROR(CheckSchedule(config, config.parallel, &stages));
  LYCIA_RETURN_IF_ERROR(CheckPartition(config, stages));
  if (config.output.dir.empty()) return InvalidArgument("output.dir is empty; name a folder for the run");
  if (config.output.metrics.find('/') != std::string::npos) {
    return InvalidArgument("output.metrics = '", config.output.metrics, "' must be a file name inside output.dir, without '/'");
  }
  if (config.output.trace_step > config.train.steps) {
    return InvalidArgument("output.trace_step = ", config.output.trace_step, " is never reached; train.steps = ", config.train.steps);
  }
  if (config.model.reads_text() && config.generate.tokens > 0 && config.generate.prompt.empty()) {
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
