#include "runtime/comm/communicator.h"

namespace lycia {

std::int64_t ChannelMemoryBytes(std::int64_t bytes, int credits) { return (bytes + 63) / 64 * 64 * credits; }

}  // namespace lycia
