#include "runtime/comm/nccl_world.h"

#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/nccl_communicator.h"
#include "runtime/comm/nccl_error.h"
#include "runtime/comm/transports.h"
#include "runtime/core/check.h"

namespace lycia::nccl {
namespace {

StatusOr<std::unique_ptr<Communicator>> OpenOver(const std::shared_ptr<Communicator>& control, const Options& options,
                                                 std::shared_ptr<Family> family) {
  // Several communicators in flight are then launched in the order of the calls (NCCL 2.26 and newer); a user's own setting stays.
  ::setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", /*overwrite=*/0);
  auto state = std::make_shared<RankState>(options, control, std::move(family));
  LYCIA_RETURN_IF_ERROR(state->Open());
  ncclUniqueId id{};
  Status drawn;
  if (control->rank() == 0) drawn = LYCIA_NCCL_STATUS(nullptr, ncclGetUniqueId(&id), "the world of ", control->size(), " ranks");
  // A failure of rank 0 travels too, or the others would wait for an id that never comes.
  const std::string told = drawn.ok() ? std::string(id.internal, sizeof id.internal) : std::string(drawn.message());
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> ids,
                         BootstrapOver(control.get())->Exchange("NCCL's unique id", control->rank() == 0 ? told : ""));
  if (ids[0].size() != sizeof id.internal) return absl::UnavailableError(StrCat("rank 0: ", ids[0]));
  std::memcpy(id.internal, ids[0].data(), sizeof id.internal);

  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Lane> lane, state->NewLane("world", control->rank(), control->size(), /*collective=*/true));
  LYCIA_RETURN_IF_ERROR(state->Create(lane.get(), nullptr, [&] {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.splitShare = 1;
    config.commName = lane->name.c_str();
    return LYCIA_NCCL_STATUS(nullptr, ncclCommInitRankConfig(&lane->comm, lane->size, id, lane->rank, &config), lane->Where(), ", device ",
                             options.device);
  }));
  auto world = std::make_unique<NcclCommunicator>(std::move(state), control, std::move(lane));
  LYCIA_RETURN_IF_ERROR(world->Open());
  return std::unique_ptr<Communicator>(std::move(world));
}

// A rank that fails ends the control world, or the others would wait for it.
StatusOr<std::unique_ptr<Communicator>> OpenRank(std::unique_ptr<Communicator> given, const Options& options,
                                                 std::shared_ptr<Family> family) {
  const std::shared_ptr<Communicator> control = std::move(given);
  auto opened = OpenOver(control, options, std::move(family));
  if (!opened.ok()) control->Abort(opened.status());
  return opened;
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> OpenWorld(std::unique_ptr<Communicator> control, const Options& options) {
  return OpenRank(std::move(control), options, std::make_shared<Family>());
}

StatusOr<std::vector<std::unique_ptr<Communicator>>> OpenThreadWorld(const std::vector<int>& device_of_rank, const Options& options) {
  const auto family = std::make_shared<Family>();
  const int size = static_cast<int>(device_of_rank.size());
  std::vector<std::unique_ptr<Communicator>> controls = lycia::OpenThreadWorld(size), world(controls.size());
  std::vector<Status> opened(controls.size());
  std::vector<std::thread> ranks;
  for (std::size_t r = 0; r < controls.size(); ++r) {
    ranks.emplace_back([&, r] {
      Options own = options;
      own.device = device_of_rank[r];
      auto rank = OpenRank(std::move(controls[r]), own, family);
      opened[r] = rank.status();
      if (rank.ok()) world[r] = *std::move(rank);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const Status& status : opened) LYCIA_RETURN_IF_ERROR(status);
  return world;
}

std::string Version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "unknown";
  constexpr int kMajor = 10'000, kMinor = 100;
  return StrCat(version / kMajor, ".", version / kMinor % 100, ".", version % kMinor);
}

}  // namespace lycia::nccl
