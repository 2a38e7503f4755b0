// The conformance suite over TCP between ranks whose operands lie on a (fake) device: threads that share nothing but that device.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/tcp_world.h"
#include "runtime/comm/testing/pinned_operands_cuda.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

std::vector<Status> RunRanks(int size, const std::function<Status(Communicator&)>& body) {
  std::vector<Status> ended(static_cast<std::size_t>(size));
  const Status met = RunThreadRanks(size, [&](Communicator& threads) -> Status {
    const auto bootstrap = BootstrapOver(&threads);
    LYCIA_ASSIGN_OR_RETURN(const auto world, OpenCudaTcpWorld(0, *bootstrap, {.host = "localhost"}));
    Status& mine = ended[static_cast<std::size_t>(world->rank())];
    mine = body(*world);
    if (!mine.ok()) world->Abort(Annotate(mine, StrCat("rank ", world->rank(), " failed")));
    return OkStatus();
  });
  EXPECT_TRUE(met.ok()) << met;
  return ended;
}

struct Run {
  ConformanceCase test;
  int size;
};

std::vector<Run> AllRuns() {
  std::vector<Run> runs;
  for (const int size : {1, 3}) {
    for (const ConformanceCase& test : AllConformanceCases()) {
      if (size == 1 || !test.large) runs.push_back({test, size});
    }
  }
  return runs;
}

class TcpCudaConformance : public testing::TestWithParam<Run> {
  DeviceOperands on_the_device_;
};

TEST_P(TcpCudaConformance, Holds) {
  for (const Status& status : RunRanks(GetParam().size, GetParam().test.run)) EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(TcpCuda, TcpCudaConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return std::string(info.param.test.name) + "_" + std::to_string(info.param.size);
});

TEST(TcpCudaWorld, WithoutTheDeviceAllRanksEnd) {
  const Status met = RunThreadRanks(2, [&](Communicator& threads) -> Status {
    const auto bootstrap = BootstrapOver(&threads);
    const auto world = OpenCudaTcpWorld(threads.rank() == 0 ? 0 : 7, *bootstrap, {.host = "localhost"});
    if (threads.rank() == 1) {
      EXPECT_TRUE(absl::IsUnavailable(world.status())) << world.status();
      return OkStatus();
    }
    // Rank 1 has gone: what is asked of it fails, and does not wait for ever.
    if (!world.ok()) return OkStatus();
    EXPECT_FALSE((*world)->Barrier().ok());
    return OkStatus();
  });
  EXPECT_TRUE(met.ok()) << met;
}

}  // namespace
}  // namespace lycia
