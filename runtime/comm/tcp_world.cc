#include "runtime/comm/tcp_world.h"

#include <unistd.h>

#include "runtime/comm/engine.h"
#include "runtime/comm/tcp_wire.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {

StatusOr<std::unique_ptr<Communicator>> OpenTcpWorld(Bootstrap& bootstrap, const TcpOptions& options) {
  std::string host = options.host;
  if (host.empty()) {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    host = name;
  }
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenTcpWire(bootstrap, host, options.patience); }));
  return OpenWireWorld(std::move(engine), "tcp", bootstrap.rank(), bootstrap.size());
}

}  // namespace lycia
