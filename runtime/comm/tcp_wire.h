// The wire between processes without MPI: TCP connections between all pairs of ranks.
//
// A send is announced; its bytes follow once the peer has answered that a receive is posted, and lands in that receive's memory. So every
// send is a confirmed one, and nobody keeps messages that were not asked for.
#ifndef LYCIA_RUNTIME_COMM_TCP_WIRE_H_
#define LYCIA_RUNTIME_COMM_TCP_WIRE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/wire.h"

namespace lycia {

struct TcpWireOptions {
  std::string host;  // this machine, as the others reach it
  std::chrono::milliseconds patience{300'000};
  std::function<void(const Status&)> on_failure;  // on the communication thread, when a connection is found to be broken; may be empty
};

// Collective over the bootstrap. A rank that ends without saying goodbye (a crash, an abort) fails the wires of all others.
StatusOr<std::unique_ptr<Wire>> OpenTcpWire(Bootstrap& bootstrap, const TcpWireOptions& options);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_WIRE_H_
