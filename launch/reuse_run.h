// Computation reuse around a training run: the table of what it did, checkpoints. What it decides by: reuse_rates.h.
#ifndef LYCIA_LAUNCH_REUSE_RUN_H_
#define LYCIA_LAUNCH_REUSE_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launch/checkpoint/manifest.h"
#include "launch/progress.h"
#include "launch/trainer.h"

namespace lycia {

// For metrics.jsonl; points into the control.
void ReuseMetricsOf(const ReuseControl& control, std::vector<ReuseMetrics>& layers);

// The last step's table, of layers that were looked at.
std::string ReuseTable(const ReuseControl& control);

// Into and from a checkpoint. A checkpoint without a state (of a run without reuse) leaves the control as it is.
void SaveReuse(const Trainer& trainer, CheckpointState& state);
Status RestoreReuse(const CheckpointState& state, Trainer& trainer);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_REUSE_RUN_H_
