// The Communicator over a wire: threads and MPI differ only in the wire.
#ifndef LYCIA_RUNTIME_COMM_WIRE_COMMUNICATOR_H_
#define LYCIA_RUNTIME_COMM_WIRE_COMMUNICATOR_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "runtime/comm/communicator.h"
#include "runtime/comm/engine.h"

namespace lycia {

// Sums and gathers: by messages, or, in groups whose ranks are all processes of one host and all want it, through memory they share.
enum class Sums : std::uint8_t { kMessages, kSharedMemory };

// The communicator of all `size` ranks, seen from `rank`; each rank of the process opens its own on the shared engine. With kMessages on
// some ranks of the world and kSharedMemory on others, groups with one of the former use messages.
std::unique_ptr<Communicator> OpenWireWorld(std::shared_ptr<Engine> engine, std::string_view transport, int rank, int size,
                                            Sums sums = Sums::kMessages);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_WIRE_COMMUNICATOR_H_
