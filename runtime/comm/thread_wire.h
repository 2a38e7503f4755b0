// The wire between ranks that are threads of one process: a send meets its receive and one copy is made.
#ifndef LYCIA_RUNTIME_COMM_THREAD_WIRE_H_
#define LYCIA_RUNTIME_COMM_THREAD_WIRE_H_

#include <memory>

#include "runtime/comm/wire.h"

namespace lycia {

std::unique_ptr<Wire> NewThreadWire(std::unique_ptr<Mover> mover = NewHostMover());

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_THREAD_WIRE_H_
