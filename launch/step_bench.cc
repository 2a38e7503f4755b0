#include "launch/step_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "launch/core_share.h"
#include "launch/kernel_names.h"
#include "launch/model_weights.h"
#include "launch/register_peak.h"
#include "launch/trainer_options.h"

namespace lycia {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Adds up what the instructions of measured steps take, and passes them on.
class PartsObserver final : public StepObserver {
 public:
  explicit PartsObserver(StepObserver& next) : next_(&next) {}
  void Measure(bool measure) { measure_ = measure; }
  const StepParts& parts() const { return parts_; }
  void Begin(const schedule::Instruction& instruction, const std::string& text) override {
    next_->Begin(instruction, text);
    begun_ = Now();
  }
  void End(const schedule::Instruction& instruction) override {
    if (measure_) PartOf(instruction.op) += Now() - begun_;
    next_->End(instruction);
  }

 private:
  double& PartOf(schedule::Op op) {
    using schedule::Op;
    switch (op) {
      case Op::kForward:
      case Op::kLoad:
        return parts_.forward;
      case Op::kBackward:
      case Op::kBackwardInput:
      case Op::kBackwardWeight:
        return parts_.backward;
      case Op::kGradientSync:
        return parts_.synchronize;
      case Op::kUpdate:
        return parts_.update;
      default:
        return parts_.messages;
    }
  }

  StepObserver* next_;
  StepParts parts_;
  double begun_ = 0;
  bool measure_ = false;
};

// The highest resident size starts anew; where the kernel does not permit it, that of the set-up may be counted too.
void ForgetPeakMemory() { std::ofstream("/proc/self/clear_refs") << 5; }

std::int64_t PeakMemoryBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::atoll(line.c_str() + 6);
  }
  return 0;
}

StatusOr<std::int64_t> LargestOfAll(Communicator& world, std::int64_t mine) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  LYCIA_RETURN_IF_ERROR(
      world
          .AllGather({.in = ConstTensor(&mine, DType::kI64, {1}), .out = {all.data(), DType::kI64, {world.size()}}, .tag = Tag::kMetrics},
                     {})
          .Wait());
  return *std::max_element(all.begin(), all.end());
}

// Of the ranks' threads together, as far as the machine has cores for them.
double PeakOfAllRanks(Stream& stream, DType dtype, int ranks, int threads) {
  if (stream.pool() == nullptr) return 0;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return RegisterPeakGflops(cpu::SelectedKernel(dtype), *stream.pool()) * std::max(1, std::min(ranks, cores / threads));
}

Status RunSteps(const Config& config, const StepBenchOptions& options, const BenchTokens& tokens, Session& session, Trainer& trainer,
                PartsObserver& parts, StepSpeed& speed) {
  for (std::int64_t step = 0; step < options.warmup + options.steps; ++step) {
    const bool measured = step >= options.warmup;
    if (step == options.warmup) ForgetPeakMemory();
    parts.Measure(measured);
    LYCIA_RETURN_IF_ERROR(session.world->Barrier());
    const double start = Now();
    LYCIA_RETURN_IF_ERROR(trainer.TrainStep(step, tokens, config.train.lr, false));
    LYCIA_RETURN_IF_ERROR(session.world->Barrier());
    if (measured) speed.seconds.push_back(Now() - start);
    if (trainer.decision().skipped) {
      if (!measured) continue;
      return absl::FailedPreconditionError(StrCat("measured step ", step + 1 - options.warmup, " overflowed at loss scale ",
                                                  trainer.decision().loss_scale,
                                                  " and was skipped; use a larger --warmup, or a smaller --set train.loss_scale_initial"));
    }
    if (!trainer.decision().finite) {
      return absl::FailedPreconditionError(
          StrCat("step ", step + 1, ": the loss or the gradient norm is not finite; use a lower --set train.lr, or other --weights"));
    }
    speed.losses.push_back(trainer.loss());
  }
  return OkStatus();
}

}  // namespace

double StepFlops(const ModelConfig& model, std::int64_t batch) {
  const auto C = static_cast<double>(model.hidden), T = static_cast<double>(model.context), L = static_cast<double>(model.layers);
  const auto key_heads = static_cast<double>(model.kv_heads == 0 ? model.heads : model.kv_heads);
  const double qkv = C + 2 * key_heads * C / static_cast<double>(model.heads);
  const double mlp_matrices = model.kind == "llama" ? 3 : 2;
  const double weights = L * (C * qkv + C * C + mlp_matrices * C * static_cast<double>(model.ffn)) + static_cast<double>(model.vocab) * C;
  const double tokens = static_cast<double>(batch) * T;
  return 6 * weights * tokens + 12 * L * tokens * T * C;
}

StatusOr<StepSpeed> MeasureSteps(const Config& config, const StepBenchOptions& asked, const BenchTokens& tokens, Session& session) {
  StepBenchOptions options = asked;
  Communicator& world = *session.world;
  SessionObserver board(session, 0);
  PartsObserver parts(board);
  TrainerOptions trainer_options = TrainerOptionsOf(config, session, board);
  trainer_options.observer = &parts;
  LYCIA_ASSIGN_OR_RETURN(trainer_options.cpu, ShareCores(world, static_cast<int>(config.parallel.threads)));
  LYCIA_RETURN_IF_ERROR(PinRankThread(trainer_options.cpu));
  StatusOr<std::unique_ptr<Trainer>> made = Trainer::Create(trainer_options, world);
  if (!made.ok() && made.status().code() != absl::StatusCode::kInvalidArgument) return made.status();
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, made.status()));
  Trainer& trainer = **made;
  // What is measured must not be the trial of graphs.
  const bool on_trial = trainer.graphs() != nullptr && !trainer.graphs()->decided();
  if (on_trial) options.warmup = std::max<std::int64_t>(options.warmup, GraphTrial::kMostSteps);
  if (!config.init.from.empty()) {
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, LoadModelWeights(config.init.from, trainer)));
    LYCIA_RETURN_IF_ERROR(trainer.PublishWeights());
  }

  const DType dtype = TrainerPrecision(config);
  const KernelNames kernels = KernelsFor(dtype);
  StepSpeed speed{.layers = config.model.layers,
                  .heads = config.model.heads,
                  .hidden = config.model.hidden,
                  .vocabulary = config.model.vocab,
                  .sequence = config.model.context,
                  .batch = config.train.batch,
                  .micro_batch = config.train.micro_batch,
                  .parameters = trainer.num_parameters(),
                  .precision = config.train.precision,
                  .schedule = trainer.schedule().name,
                  .ranks = session.ranks(),
                  .threads = trainer_options.cpu.threads,
                  .isa = kernels.products,
                  .vectors = kernels.others,
                  .warmup = static_cast<int>(options.warmup),
                  .flops = StepFlops(config.model, config.train.batch)};
  LYCIA_RETURN_IF_ERROR(world.Barrier());
  if (dtype != DType::kF64 && session.rank() == 0) {
    speed.peak_gflops = PeakOfAllRanks(trainer.stream(), dtype, session.ranks(), trainer_options.cpu.threads);
  }
  LYCIA_RETURN_IF_ERROR(RunSteps(config, options, tokens, session, trainer, parts, speed));
  if (speed.peak_gflops > 0) {  // the better of before and after: others may have disturbed one of them
    speed.peak_gflops = std::max(speed.peak_gflops, PeakOfAllRanks(trainer.stream(), dtype, session.ranks(), trainer_options.cpu.threads));
  }
  if (trainer.graphs() != nullptr) speed.graphs = trainer.graphs()->ToString();
  const auto each = [&](double sum) { return sum / static_cast<double>(options.steps); };
  speed.parts = {.forward = each(parts.parts().forward),
                 .backward = each(parts.parts().backward),
                 .messages = each(parts.parts().messages),
                 .synchronize = each(parts.parts().synchronize),
                 .update = each(parts.parts().update)};
  LYCIA_ASSIGN_OR_RETURN(speed.planned_bytes, LargestOfAll(world, trainer.memory_bytes()));
  LYCIA_ASSIGN_OR_RETURN(speed.peak_bytes, LargestOfAll(world, PeakMemoryBytes()));
  return speed;
}

double StepSpeed::median_seconds() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t half = sorted.size() / 2;
  if (sorted.empty()) return 0;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double StepSpeed::best_seconds() const { return seconds.empty() ? 0 : *std::min_element(seconds.begin(), seconds.end()); }

}  // namespace lycia
