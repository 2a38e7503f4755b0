// The picture of one step, in three panels on one time axis: what the schedule promised, the recorded step replayed with each rank's CPU
// time on a core of its own, and the wall time as it was.
#ifndef LYCIA_LAUNCH_STEP_PICTURE_H_
#define LYCIA_LAUNCH_STEP_PICTURE_H_

#include <span>
#include <string>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"
#include "runtime/trace/spans.h"

namespace lycia {

struct StepPicture {
  std::string svg;
  // Makespans of the panels in ns, and the idle share of the first two.
  std::int64_t promised_ns = 0, replayed_ns = 0, wall_ns = 0;
  double promised_bubble = 0, replayed_bubble = 0;
};

// workers: the recorded step of one replica, worker by worker; one span for each instruction of its program. The promise is the schedule at
// backward = 2 forward with even stages, scaled so that it holds as much work as was measured. cores: that all ranks of this host shared.
StatusOr<StepPicture> DrawStep(const schedule::Schedule& schedule, std::span<const RankSpans> workers, int cores);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_STEP_PICTURE_H_
