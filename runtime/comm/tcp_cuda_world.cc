// Ranks as processes with a GPU each, without MPI and without NCCL.
#include "bazel/build_config.h"
#include "runtime/comm/cuda_mover.h"
#include "runtime/comm/engine.h"
#include "runtime/comm/staged_wire.h"
#include "runtime/comm/tcp_host.h"
#include "runtime/comm/tcp_wire.h"
#include "runtime/comm/tcp_world.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {
namespace {

StatusOr<std::unique_ptr<Wire>> OpenWire(int device, Bootstrap& bootstrap, const TcpWireOptions& options) {
  if constexpr (kCudaEnabled) {
    // Connected before the device is asked for: a rank without one then fails before the eyes of the others, who would wait for it else.
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Wire> tcp, OpenTcpWire(bootstrap, options));
    StatusOr<std::unique_ptr<Mover>> mover = cuda::NewMover({device}, kStagedPieceBytes);
    if (mover.ok()) return NewStagedWire(std::move(tcp), *std::move(mover), DeviceMessages::kStaged);
    tcp->Abandon();
    return mover.status();
  } else {
    return absl::UnavailableError(StrCat("no GPU ", device, ": this build has no CUDA; install the toolkit and build again"));
  }
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> OpenCudaTcpWorld(int device, Bootstrap& bootstrap, const TcpOptions& options) {
  const TcpWireOptions wire{.host = TcpHost(bootstrap, options), .patience = options.patience, .on_failure = options.on_failure};
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenWire(device, bootstrap, wire); }));
  return OpenWireWorld(std::move(engine), "tcp", bootstrap.rank(), bootstrap.size());
}

}  // namespace lycia
