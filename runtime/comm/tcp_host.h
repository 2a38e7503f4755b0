// How the other ranks reach this machine.
#ifndef LYCIA_RUNTIME_COMM_TCP_HOST_H_
#define LYCIA_RUNTIME_COMM_TCP_HOST_H_

#include <unistd.h>

#include <string>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/tcp_world.h"

namespace lycia {

// What the caller says, else what the bootstrap has found out, else the name of this host.
inline std::string TcpHost(const Bootstrap& bootstrap, const TcpOptions& options) {
  if (!options.host.empty()) return options.host;
  if (!bootstrap.address().empty()) return bootstrap.address();
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_HOST_H_
