#include "runtime/comm/tcp_world.h"

#include "runtime/comm/engine.h"
#include "runtime/comm/tcp_host.h"
#include "runtime/comm/tcp_wire.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {

StatusOr<std::unique_ptr<Communicator>> OpenTcpWorld(Bootstrap& bootstrap, const TcpOptions& options) {
  const TcpWireOptions wire{.host = TcpHost(bootstrap, options), .patience = options.patience, .on_failure = options.on_failure};
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenTcpWire(bootstrap, wire); }));
  return OpenWireWorld(std::move(engine), "tcp", bootstrap.rank(), bootstrap.size(),
                       options.shared_memory ? Sums::kSharedMemory : Sums::kMessages);
}

}  // namespace lycia
