// The Communicator over a wire: threads and MPI differ only in the wire.
#ifndef LYCIA_RUNTIME_COMM_WIRE_COMMUNICATOR_H_
#define LYCIA_RUNTIME_COMM_WIRE_COMMUNICATOR_H_

#include <memory>
#include <string_view>

#include "runtime/comm/communicator.h"
#include "runtime/comm/engine.h"

namespace lycia {

// The communicator of all `size` ranks, seen from `rank`; each rank of the process opens its own on the shared engine.
std::unique_ptr<Communicator> OpenWireWorld(std::shared_ptr<Engine> engine, std::string_view transport, int rank, int size);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_WIRE_COMMUNICATOR_H_
