// StagedWire: another wire, for operands in device memory. What that wire cannot reach travels through page-locked memory: copied there
// before a send, and from there after a receive, in the order of the mover's other moves.
#ifndef LYCIA_RUNTIME_COMM_STAGED_WIRE_H_
#define LYCIA_RUNTIME_COMM_STAGED_WIRE_H_

#include <cstdint>
#include <memory>

#include "runtime/comm/mover.h"
#include "runtime/comm/wire.h"

namespace lycia {

// Whether the wire beneath takes addresses of devices (an MPI library built for CUDA) or not.
enum class DeviceMessages : std::uint8_t { kStaged, kDirect };

// For the mover: what is copied to page-locked memory before a message has something to do, so that copy and message of a large operand
// overlap.
inline constexpr std::int64_t kStagedPieceBytes = std::int64_t{4} << 20;

std::unique_ptr<Wire> NewStagedWire(std::unique_ptr<Wire> beneath, std::unique_ptr<Mover> mover, DeviceMessages messages);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_STAGED_WIRE_H_
