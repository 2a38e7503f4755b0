// What a recorded step says its instructions cost, as the text that plans are made from.
#ifndef LYCIA_LAUNCH_MEASURED_COSTS_H_
#define LYCIA_LAUNCH_MEASURED_COSTS_H_

#include <span>
#include <string>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"
#include "runtime/trace/spans.h"

namespace lycia {

// "F=1.204,B=2.511;F=1.198,B=2.498": a list for each stage, in ms of processor time for a whole micro-batch, the mean over all of the step;
// I and W where the schedule splits backwards. schedule::ParseCosts reads it. workers: one replica's, worker by worker.
// InvalidArgument: an instruction has no span, as where the recorder was full.
StatusOr<std::string> MeasuredCosts(const schedule::Schedule& schedule, std::span<const RankSpans> workers);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_MEASURED_COSTS_H_
