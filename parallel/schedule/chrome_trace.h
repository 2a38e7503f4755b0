// A schedule as a Chrome trace: JSON that chrome://tracing and Perfetto load.
#ifndef LYCIA_PARALLEL_SCHEDULE_CHROME_TRACE_H_
#define LYCIA_PARALLEL_SCHEDULE_CHROME_TRACE_H_

#include <string>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {

// One process a worker, with threads for compute (and updates), gradient synchronisation and messages; as many message threads as messages
// are on their way at once. A message lies on its sender's thread from when its link takes it to its arrival; an arrow leads from the
// instruction that made it to the one that needs it. Times are in microseconds, 1000 of them a unit of cost, so that viewers show units as
// milliseconds. costs: those of the timeline.
std::string RenderChromeTrace(const Schedule& schedule, const Timeline& timeline, const TickCosts& costs);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_CHROME_TRACE_H_
