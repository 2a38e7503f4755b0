// Keeps the newest checkpoints and removes older ones.
#ifndef LYCIA_LAUNCH_CHECKPOINT_PRUNE_H_
#define LYCIA_LAUNCH_CHECKPOINT_PRUNE_H_

#include <cstdint>
#include <string>

#include "runtime/core/status.h"

namespace lycia {

// Of the checkpoints up to step `newest`, which must be whole, keeps `keep` (>= 1) that open, counted from `newest` down, and removes those
// before them. Damaged ones do not count. Later steps (another life of this run), folders with a file that is not ours, and anything else
// stay.
Status PruneCheckpoints(const std::string& directory, std::int64_t newest, int keep);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_PRUNE_H_
