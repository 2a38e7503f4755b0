// What a configuration says of the session.
#ifndef LYCIA_LAUNCH_SESSION_OPTIONS_H_
#define LYCIA_LAUNCH_SESSION_OPTIONS_H_

#include "launch/config.h"
#include "launch/session.h"

namespace lycia {

// Deadlines, device, transport and NCCL's options; the rest as it was.
void ReadSessionOptions(const Config& config, SessionOptions& options);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_SESSION_OPTIONS_H_
