// The loss scale of a run in f16: its configuration, checkpoints, and what is said of steps that are not finite.
#ifndef LYCIA_LAUNCH_LOSS_SCALE_RUN_H_
#define LYCIA_LAUNCH_LOSS_SCALE_RUN_H_

#include <string>

#include "launch/checkpoint/manifest.h"
#include "launch/config.h"
#include "launch/trainer.h"

namespace lycia {

LossScaleOptions LossScaleOf(const TrainConfig& config);

// Into and from a checkpoint, bit for bit. InvalidArgument where one of checkpoint and run is in f16 and the other is not, or where the
// saved scale is none.
void SaveLossScale(Trainer& trainer, CheckpointState& state);
Status RestoreLossScale(const CheckpointState& state, Trainer& trainer);

// One line on a step whose update was skipped. step counts from 1; next: the scale from now on.
std::string SkippedStepText(std::int64_t step, const Decision& decision, double next);
// Of a step, in any precision, that no loss scale can repair; scaler may be null.
Status NotFiniteError(std::int64_t step, const TrainConfig& config, const LossScaler* scaler);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_LOSS_SCALE_RUN_H_
