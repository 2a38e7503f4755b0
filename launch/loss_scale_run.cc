#include "launch/loss_scale_run.h"

#include "absl/strings/str_format.h"

namespace lycia {
namespace {

constexpr const char* kScale = "loss_scale";
constexpr const char* kGoodSteps = "loss_scale_good_steps";
constexpr const char* kSkippedSteps = "skipped_steps";

}  // namespace

LossScaleOptions LossScaleOf(const TrainConfig& config) {
  if (config.loss_scale > 0) return FixedLossScale(config.loss_scale);
  return {.initial = config.loss_scale_initial, .growth_interval = config.loss_scale_growth_interval, .least = config.loss_scale_min};
}

void SaveLossScale(Trainer& trainer, CheckpointState& state) {
  const LossScaler* const scaler = trainer.optimizer().scaler();
  if (scaler == nullptr) return;
  state.reals.emplace_back(kScale, scaler->state().scale);
  state.integers.emplace_back(kGoodSteps, scaler->state().good_steps);
  state.integers.emplace_back(kSkippedSteps, scaler->state().skipped_steps);
}

Status RestoreLossScale(const CheckpointState& state, Trainer& trainer) {
  LossScaler* const scaler = trainer.optimizer().scaler();
  const StatusOr<double> scale = state.Real(kScale);
  if (scaler == nullptr && scale.ok()) {
    return InvalidArgument("it was trained in f16, the configuration has train.precision = \"", Name(trainer.precision()),
                           "\"; set train.precision = \"f16\"");
  }
  if (scaler == nullptr) return OkStatus();
  if (!scale.ok()) {
    return InvalidArgument("it was not trained in f16, but the configuration has train.precision = \"f16\"; set the precision of its run");
  }
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t good_steps, state.Integer(kGoodSteps));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t skipped_steps, state.Integer(kSkippedSteps));
  return scaler->Restore({.scale = *scale, .good_steps = good_steps, .skipped_steps = skipped_steps});
}

std::string SkippedStepText(std::int64_t step, const Decision& decision, double next) {
  return absl::StrFormat("step %d: an f16 gradient or the loss overflowed at loss scale %.9g: not updated; the scale is now %.9g", step,
                         decision.loss_scale, next);
}

Status NotFiniteError(std::int64_t step, const TrainConfig& config, const LossScaler* scaler) {
  const bool eager = config.update == "eager";
  return absl::FailedPreconditionError(
      absl::StrFormat("step %d: the gradient norm or the loss is not finite%s; %s. Resume with a lower train.lr, or train.clip > 0%s", step,
                      scaler == nullptr ? "" : absl::StrFormat(" at loss scale %.9g, which is the least", scaler->scale()),
                      eager ? "stages that were updated before this was known are lost, the last checkpoint is not" : "nothing was updated",
                      eager ? " with train.update = \"decided\"" : ""));
}

}  // namespace lycia
