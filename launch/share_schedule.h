// One rank plans, all run: a schedule from rank 0 to the others.
#ifndef LYCIA_LAUNCH_SHARE_SCHEDULE_H_
#define LYCIA_LAUNCH_SHARE_SCHEDULE_H_

#include "parallel/schedule/schedule.h"
#include "runtime/comm/communicator.h"
#include "runtime/core/status.h"

namespace lycia {

// Collective over processes of one program: rank 0's schedule becomes everybody's. The search for an order can take seconds, and ranks
// that share cores would take them one after the other.
Status ShareSchedule(Communicator& world, schedule::Schedule& schedule);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_SHARE_SCHEDULE_H_
