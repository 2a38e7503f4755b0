// A run on emulated devices: the trainer's real step without data, timed.
#ifndef LYCIA_LAUNCH_EMULATED_RUN_H_
#define LYCIA_LAUNCH_EMULATED_RUN_H_

#include "launch/config.h"
#include "launch/session.h"

namespace lycia {

// `config` is resolved for session.ranks(), with parallel.device = "emulated". Collective. Needs no text; writes metrics.jsonl, and
// trace.json for a traced step, to output.dir. InvalidArgument (all ranks agree): input that cannot work. Only rank 0 prints.
Status RunEmulation(const Config& config, Session& session);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_EMULATED_RUN_H_
