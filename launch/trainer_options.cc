#include "launch/trainer_options.h"

#include <cmath>
#include <numeric>

#include "launch/generator.h"
#include "launch/loss_scale_run.h"

namespace lycia {
namespace {

// A time in ms as a multiple of 1 / per_ms.
schedule::Fraction Milliseconds(double value, std::int64_t per_ms) {
  const std::int64_t parts = std::llround(value * static_cast<double>(per_ms)), common = std::gcd(parts, per_ms);
  return {parts / common, per_ms / common};
}

// What schedules are planned for, to the microsecond.
schedule::Costs CostsOf(const ParallelConfig& config) {
  schedule::Costs costs = *schedule::ParseCosts(config.cost);  // ResolveConfig has read it
  constexpr std::int64_t kMicroseconds = 1000;
  costs.latency = Milliseconds(config.latency, kMicroseconds);
  costs.transmit = Milliseconds(config.transmit, kMicroseconds);
  costs.sync = Milliseconds(config.sync, kMicroseconds);
  costs.update = Milliseconds(config.update, kMicroseconds);
  return costs;
}

}  // namespace

DType TrainerPrecision(const Config& config) {
  const std::string& precision = config.train.precision;
  if (precision == "f64") return DType::kF64;
  if (precision == "f16") return DType::kF16;
  return precision == "bf16" ? DType::kBF16 : DType::kF32;
}

Model ModelOf(const ModelConfig& config) {
  if (config.reads_text()) return GptConfigOf(config);
  return ImageModelConfig{.kind = config.kind == "cnn"        ? ImageModelKind::kCnn
                                  : config.kind == "vgg16"    ? ImageModelKind::kVgg16
                                  : config.kind == "resnet18" ? ImageModelKind::kResNet18
                                                              : ImageModelKind::kResNet50,
                          .height = config.height,
                          .width = config.width,
                          .channels = config.channels,
                          .classes = config.classes,
                          .norm_samples = config.norm_samples,
                          .norm_momentum = config.norm_momentum,
                          .dropout = config.dropout,
                          .mean = config.image_mean,
                          .deviation = config.image_deviation};
}

namespace {

ReuseTraining ReuseOf(const Config& config) {
  const ReuseConfig& reuse = config.reuse;
  ReuseTraining training;
  training.layers = {.on = reuse.mode != "off",
                     .policy = reuse.mode == "quantized" ? ReusePolicy::kQuantized
                               : reuse.mode == "lsh"     ? ReusePolicy::kLsh
                                                         : ReusePolicy::kExact,
                     .layers = reuse.layers};
  const double width = reuse.mode == "exact" ? 0 : reuse.width;
  training.controller = {.steps = config.train.steps,
                         .budget = reuse.budget,
                         .first_width = width,
                         .least_width = reuse.width / 64,
                         .most_width = 16 * reuse.width,
                         .hash_every = reuse.hash_every,
                         .probe_every = reuse.probe_every,
                         .patience = reuse.patience,
                         .cooldown_steps = reuse.cooldown,
                         .final_fraction = reuse.final_fraction};
  training.always = reuse.dispatch == "always";
  if (config.parallel.device == "cuda") training.calibration_steps = 0;  // the host does not see what a layer takes
  return training;
}

}  // namespace

TrainerOptions TrainerOptionsOf(const Config& config, Session& session, SessionObserver& observer) {
  TrainerOptions options;
  options.model = ModelOf(config.model);
  options.reuse = ReuseOf(config);
  std::visit([&](auto& model) { model.reuse = options.reuse.layers; }, options.model);
  options.device = config.parallel.device == "cuda" ? DeviceKind::kCuda : DeviceKind::kCpu;
  options.gpu = session.gpu;
  options.cuda = {.tf32 = config.train.tf32};
  options.precision = TrainerPrecision(config);
  options.recompute = config.train.recompute == "layers"  ? Recompute::kLayers
                      : config.train.recompute == "stage" ? Recompute::kStage
                                                          : Recompute::kNone;
  options.packed_weights = config.train.packed_weights == "on"    ? PackedWeights::kOn
                           : config.train.packed_weights == "off" ? PackedWeights::kOff
                                                                  : PackedWeights::kAuto;
  options.cuda_graphs = config.parallel.cuda_graphs == "on"    ? CudaGraphs::kOn
                        : config.parallel.cuda_graphs == "off" ? CudaGraphs::kOff
                                                               : CudaGraphs::kAuto;
  options.schedule = config.parallel.schedule;
  options.schedule_csv = config.parallel.schedule_csv;
  options.schedule_file = config.parallel.schedule_file;
  options.stages = static_cast<int>(config.parallel.stages);
  options.pipes = static_cast<int>(config.parallel.pipes);
  options.chunks = static_cast<int>(config.parallel.chunks);
  if (!config.parallel.cost.empty()) options.measured_costs = CostsOf(config.parallel);
  options.max_activations = static_cast<int>(config.parallel.max_activations);
  using schedule::GradientSyncMode;
  options.gradient_sync = config.parallel.gradient_sync == "lazy"    ? GradientSyncMode::kLazy
                          : config.parallel.gradient_sync == "eager" ? GradientSyncMode::kEager
                                                                     : GradientSyncMode::kEagerOpt;
  options.update = config.train.update == "eager" ? schedule::UpdateMode::kEager : schedule::UpdateMode::kDecided;
  options.data = static_cast<int>(config.parallel.data);
  options.x = static_cast<int>(config.parallel.x);
  options.y = static_cast<int>(config.parallel.y);
  options.z = static_cast<int>(config.parallel.z);
  options.grid_policy = {.cache_inputs = config.parallel.cache_inputs,
                         .cache_weights = config.parallel.cache_weights,
                         .cache_output_gradients = config.parallel.cache_output_gradients,
                         .overlap = config.parallel.overlap};
  options.weights_each_step = config.parallel.weights_each_step;
  options.mesh_order = config.parallel.order;
  // For a language model the configuration counts blocks; a block is two layers, and the outer stages have the embedding and the head
  // besides.
  const bool gpt = config.model.reads_text();
  for (const std::int64_t count : config.parallel.partition) options.partition.push_back(gpt ? 2 * count : count);
  if (gpt && !options.partition.empty()) {
    ++options.partition.front();
    ++options.partition.back();
  }
  options.micro_batches = MicroBatchesPerReplica(config);
  options.samples_per_micro_batch = config.train.micro_batch;
  options.optimizer = {.beta1 = config.train.beta1,
                       .beta2 = config.train.beta2,
                       .eps = config.train.eps,
                       .weight_decay = config.train.weight_decay,
                       .clip = config.train.clip};
  options.loss_scale = LossScaleOf(config.train);
  options.seed = static_cast<std::uint64_t>(config.train.seed);
  options.observer = &observer;
  options.guard = session.watchdog;
  return options;
}

EmulationOptions EmulationOptionsOf(const EmulateConfig& config) {
  EmulationOptions options{.clock = config.clock == "wall" ? ClockKind::kWall : ClockKind::kLogical,
                           .costs = *schedule::ParseCosts(config.cost),  // ResolveConfig has read it
                           .bytes_per_second = config.bandwidth};
  constexpr std::int64_t kNanoseconds = 1'000'000;
  options.costs.latency = Milliseconds(config.latency, kNanoseconds);
  options.costs.sync = Milliseconds(config.sync, kNanoseconds);
  options.costs.update = Milliseconds(config.update, kNanoseconds);
  return options;
}

}  // namespace lycia
