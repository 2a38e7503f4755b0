// The conformance suite over TCP between threads that share nothing else, and what only processes of their own can do: end.
#include "runtime/comm/tcp_world.h"

#include <stdlib.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

using conformance::Of;
using ::testing::HasSubstr;

// Every rank opens a world of its own, with its own communication thread; the statuses by rank.
std::vector<Status> RunRanks(int size, const std::function<Status(Communicator&)>& body) {
  std::vector<Status> ended(static_cast<std::size_t>(size));
  const Status met = RunThreadRanks(size, [&](Communicator& threads) -> Status {
    const auto bootstrap = BootstrapOver(&threads);
    LYCIA_ASSIGN_OR_RETURN(const auto world, OpenTcpWorld(*bootstrap, {.host = "localhost"}));
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
  for (const int size : {1, 2, 3, 5}) {
    for (const ConformanceCase& test : AllConformanceCases()) {
      if (size <= 2 || !test.large) runs.push_back({test, size});
    }
  }
  return runs;
}

class TcpConformance : public testing::TestWithParam<Run> {};

TEST_P(TcpConformance, Holds) {
  for (const Status& status : RunRanks(GetParam().size, GetParam().test.run)) EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Tcp, TcpConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return std::string(info.param.test.name) + "_" + std::to_string(info.param.size);
});

TEST(TcpWorld, ARankThatFailsEndsTheOthers) {
  const std::vector<Status> ended = RunRanks(4, [](Communicator& world) -> Status {
    if (world.rank() == 2) return absl::DataLossError("disk on fire");
    return world.Barrier();
  });
  EXPECT_EQ(ended[2], absl::DataLossError("disk on fire"));
  for (const std::size_t r : {0, 1, 3}) {
    EXPECT_TRUE(absl::IsUnavailable(ended[r])) << ended[r];
    EXPECT_THAT(std::string(ended[r].message()), HasSubstr("has ended in the middle of its work"));
  }
}

// Ranks that are done leave, one after the other, while others still have receives posted and work to do.
TEST(TcpWorld, RanksLeaveInAnyOrder) {
  const std::vector<Status> ended = RunRanks(3, [](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const auto in, world.OpenChannel({.peer = (world.rank() + 1) % 3, .bytes = 8}));
    LYCIA_ASSIGN_OR_RETURN(const auto half, world.Split(std::vector<int>{0, 1, 1}));
    if (world.rank() == 0) return OkStatus();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::vector<double> value(100'000, 1.0);
    LYCIA_RETURN_IF_ERROR(half->AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait());
    return conformance::Expect(value.back() == 2.0, "a wrong sum");
  });
  for (const Status& status : ended) EXPECT_TRUE(status.ok()) << status;
}

TEST(TcpWorld, OpensOverFiles) {
  std::string folder = std::string(testing::TempDir()) + "tcp-world-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  std::vector<std::thread> ranks;
  std::vector<Status> ended(3, absl::UnknownError("not run"));
  for (int r = 0; r < 3; ++r) {
    ranks.emplace_back([&, r] {
      const auto bootstrap = OpenFileBootstrap(folder, {.rank = r, .size = 3, .job = "7"});
      const auto world = bootstrap.ok() ? OpenTcpWorld(**bootstrap, {.host = "localhost"}) : bootstrap.status();
      ended[static_cast<std::size_t>(r)] = world.ok() ? (*world)->Barrier() : world.status();
      EXPECT_TRUE(world.ok() && (*world)->transport() == "tcp");
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const Status& status : ended) EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace lycia
