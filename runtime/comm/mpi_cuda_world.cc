// Ranks as processes with a GPU each, by MPI.
#include <cstdlib>
#include <string_view>

#include "bazel/build_config.h"
#include "runtime/comm/cuda_mover.h"
#include "runtime/comm/engine.h"
#include "runtime/comm/mpi_wire.h"
#include "runtime/comm/staged_wire.h"
#include "runtime/comm/transports.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {
namespace {

StatusOr<DeviceMessages> HowToSend() {
  const char* value = std::getenv("LYCIA_MPI_DEVICE_MEMORY");
  if (value == nullptr) return MpiTakesDeviceMemory() ? DeviceMessages::kDirect : DeviceMessages::kStaged;
  if (std::string_view(value) == "staged") return DeviceMessages::kStaged;
  if (std::string_view(value) == "direct") return DeviceMessages::kDirect;
  return InvalidArgument("LYCIA_MPI_DEVICE_MEMORY=", value, " must be staged or direct");
}

StatusOr<std::unique_ptr<Wire>> OpenWire(int device, int* rank, int* size) {
  if constexpr (kCudaEnabled) {
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Mover> mover, cuda::NewMover({device}, kStagedPieceBytes));
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Wire> mpi, OpenMpiWire(rank, size));
    LYCIA_ASSIGN_OR_RETURN(const DeviceMessages messages, HowToSend());
    return NewStagedWire(std::move(mpi), std::move(mover), messages);
  } else {
    return absl::UnavailableError(StrCat("no GPU ", device, ": this build has no CUDA; install the toolkit and build again"));
  }
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> OpenCudaMpiWorld(int device) {
  int rank = 0, size = 1;
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenWire(device, &rank, &size); }));
  return OpenWireWorld(std::move(engine), "mpi", rank, size);
}

}  // namespace lycia
