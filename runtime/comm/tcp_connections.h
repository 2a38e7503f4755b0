// A TCP connection between every pair of ranks.
#ifndef LYCIA_RUNTIME_COMM_TCP_CONNECTIONS_H_
#define LYCIA_RUNTIME_COMM_TCP_CONNECTIONS_H_

#include <chrono>
#include <string>
#include <vector>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/socket.h"

namespace lycia {

// By rank; this rank's own is not open. Collective over the bootstrap. host: this machine, as the others reach it. Strangers are turned
// away. DeadlineExceeded names the ranks that did not come, Unavailable one that cannot be reached.
StatusOr<std::vector<Socket>> ConnectAll(Bootstrap& bootstrap, const std::string& host, std::chrono::milliseconds patience);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_CONNECTIONS_H_
