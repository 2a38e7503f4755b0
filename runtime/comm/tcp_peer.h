// The wire over TCP: what waits at a port, and what is on its way from and to another rank. Only for tcp_wire.cc.
#ifndef LYCIA_RUNTIME_COMM_TCP_PEER_H_
#define LYCIA_RUNTIME_COMM_TCP_PEER_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "runtime/comm/socket.h"
#include "runtime/comm/tcp_outbox.h"
#include "runtime/comm/wire.h"

namespace lycia {

struct TcpPort final : Wire::Port {
  Wire::PortName name;
  int users = 0;
  std::deque<Wire::Request*> sends;     // announced, not yet asked for; null: cancelled
  std::deque<Wire::Request*> receives;  // posted, not yet granted
  std::deque<Wire::Request*> granted;   // their bytes are on the way; null: cancelled, to be thrown away
  std::deque<std::int64_t> announced;   // by the peer, not yet granted
};

struct TcpPeer {
  Socket socket;
  bool left = false;  // said goodbye
  TcpOutbox outgoing;
  // Incoming.
  TcpRecord record;
  std::size_t record_read = 0;
  TcpPort* port = nullptr;  // of the data being read
  std::int64_t data_read = 0;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_PEER_H_
