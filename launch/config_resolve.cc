// What several keys say together: sizes that must divide, ranks that must fit, folders that must be writable.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "bazel/build_config.h"
#include "launch/config.h"
#include "launch/config_layout.h"
#include "launch/nearest_divisor.h"
#include "parallel/optimizer/loss_scaler.h"
#include "parallel/schedule/costs.h"

namespace lycia {
namespace {

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

Status CheckLossScale(const TrainConfig& train) {
  if (train.loss_scale > 0 && train.precision != "f16") {
    return InvalidArgument("train.loss_scale = ", train.loss_scale, " is of f16, and train.precision = \"", train.precision,
                           "\" needs none; leave it out, or use train.precision = \"f16\"");
  }
  if (train.loss_scale_min > train.loss_scale_initial || train.loss_scale_initial > LossScaler::kMost) {
    return InvalidArgument("train.loss_scale_initial = ", train.loss_scale_initial,
                           " is not between train.loss_scale_min = ", train.loss_scale_min, " and ", LossScaler::kMost,
                           "; use a power of two there, e.g. 65536");
  }
  return OkStatus();
}

Status CheckTraining(const TrainConfig& train) {
  if (train.precision == "f16" && train.update == "eager") {
    return InvalidArgument(
        "train.update = \"eager\" steps a stage before it is known whether a gradient of the model has overflowed, which "
        "train.precision = \"f16\" needs; use train.update = \"decided\", or \"bf16\"");
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

}  // namespace

Status ResolveConfig(int ranks, Config& config) {
  if (config.model.vocab == 0) config.model.vocab = 256;
  config.model.ffn = config.model.ffn_or_default();
  config.model.position = config.model.rotary() ? "rotary" : "learned";
  if (config.model.norm_samples == 0) config.model.norm_samples = config.train.micro_batch;
  LYCIA_RETURN_IF_ERROR(CheckModel(config));
  LYCIA_RETURN_IF_ERROR(CheckLossScale(config.train));
  LYCIA_RETURN_IF_ERROR(config.parallel.device == "emulated" ? CheckEmulation(config) : CheckTraining(config.train));
  LYCIA_RETURN_IF_ERROR(CheckCuda(config));
  LYCIA_RETURN_IF_ERROR(CheckTransport(config.parallel));
  LYCIA_RETURN_IF_ERROR(CheckReuse(config));
  LYCIA_RETURN_IF_ERROR(ResolveLayout(ranks, config));
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
