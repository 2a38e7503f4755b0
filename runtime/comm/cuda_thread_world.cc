// Ranks as threads of one process, on GPUs.
#include <algorithm>

#include "bazel/build_config.h"
#include "runtime/comm/cuda_mover.h"
#include "runtime/comm/engine.h"
#include "runtime/comm/thread_wire.h"
#include "runtime/comm/transports.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {
namespace {

constexpr std::size_t kMostRanks = 256;  // operands of one sum (fold_cuda.h)

StatusOr<std::unique_ptr<Wire>> OpenWire(const std::vector<int>& device_of_rank) {
  if constexpr (kCudaEnabled) {
    std::vector<int> ordinals = device_of_rank;
    std::sort(ordinals.begin(), ordinals.end());
    ordinals.erase(std::unique(ordinals.begin(), ordinals.end()), ordinals.end());
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Mover> mover, cuda::NewMover(ordinals));
    return NewThreadWire(std::move(mover));
  } else {
    return absl::UnavailableError("no GPU: this build has no CUDA; install the toolkit and build again, or use device = \"cpu\"");
  }
}

}  // namespace

StatusOr<std::vector<std::unique_ptr<Communicator>>> OpenCudaThreadWorld(const std::vector<int>& device_of_rank) {
  LYCIA_CHECK(!device_of_rank.empty());
  if (device_of_rank.size() > kMostRanks) {
    return InvalidArgument(device_of_rank.size(), " ranks in one process: their sums take at most ", kMostRanks,
                           " operands; use more processes (NCCL)");
  }
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenWire(device_of_rank); }));
  std::vector<std::unique_ptr<Communicator>> world;
  const int size = static_cast<int>(device_of_rank.size());
  for (int rank = 0; rank < size; ++rank) world.push_back(OpenWireWorld(engine, "cuda-threads", rank, size));
  return world;
}

Status RunCudaThreadRanks(const std::vector<int>& device_of_rank, const std::function<Status(Communicator&)>& body) {
  LYCIA_ASSIGN_OR_RETURN(const auto world, OpenCudaThreadWorld(device_of_rank));
  return RunRanksOf(world, body);
}

}  // namespace lycia
