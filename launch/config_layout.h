// How a run's ranks share the work, as the keys of [parallel] say together with the sizes of [train].
#ifndef LYCIA_LAUNCH_CONFIG_LAYOUT_H_
#define LYCIA_LAUNCH_CONFIG_LAYOUT_H_

#include "launch/config.h"

namespace lycia {

// Fills in parallel.data, pipes and chunks where they are left open, and the text of a user's schedule. InvalidArgument where ranks make no
// whole replicas, the batch no whole micro-batches, or the schedule does not fit either.
Status ResolveLayout(int ranks, Config& config);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CONFIG_LAYOUT_H_
