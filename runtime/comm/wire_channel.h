// Channel over a wire: each message is a payload and a small header, both sent from where they lie into receives posted ahead.
#ifndef LYCIA_RUNTIME_COMM_WIRE_CHANNEL_H_
#define LYCIA_RUNTIME_COMM_WIRE_CHANNEL_H_

#include <memory>

#include "runtime/comm/communicator.h"
#include "runtime/comm/engine.h"

namespace lycia {

struct WireChannelArgs {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<Counters> counters;  // of the communicator
  int self = 0;                        // ranks of the world
  int peer = 0;
  std::int64_t header_tag = 0;  // on the wire
  std::int64_t payload_tag = 0;
  ChannelOptions options;
};

std::unique_ptr<Channel> OpenSendingChannel(const WireChannelArgs& args);
std::unique_ptr<Channel> OpenReceivingChannel(const WireChannelArgs& args);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_WIRE_CHANNEL_H_
