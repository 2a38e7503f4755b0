// Ranks on the same cores must not share one while there are enough, and must not be starved where there are not.
#include "launch/core_share.h"

#include <sched.h>

#include <algorithm>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

// Cores that this process may run on, as the system counts them.
int ShareOfThisProcess() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  EXPECT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  return CPU_COUNT(&allowed);
}

TEST(CoreShare, EveryCoreHasOneRank) {
  const std::vector<int> cores = {2, 3, 5, 8, 9, 12, 13};
  for (int ranks = 1; ranks <= 7; ++ranks) {
    std::vector<int> seen;
    for (int index = 0; index < ranks; ++index) {
      const CpuOptions share = ShareOf({.cores = cores, .index = index, .ranks = ranks});
      EXPECT_EQ(share.threads, static_cast<int>(share.cores.size()));
      EXPECT_GE(share.threads, 7 / ranks);
      EXPECT_LE(share.threads, 7 / ranks + 1);
      seen.insert(seen.end(), share.cores.begin(), share.cores.end());
    }
    EXPECT_EQ(seen, cores) << ranks;  // each once, in order
  }
}

TEST(CoreShare, MoreRanksThanCoresAreOneThreadEach) {
  for (int index = 0; index < 5; ++index) {
    const CpuOptions share = ShareOf({.cores = {0, 1, 2, 3}, .index = index, .ranks = 5});
    EXPECT_EQ(share.threads, 1);
    EXPECT_TRUE(share.cores.empty());
  }
}

TEST(CoreShare, AskedThreadsWin) {
  EXPECT_EQ(ShareOf({.cores = {0, 1, 2, 3}, .index = 1, .ranks = 2, .threads = 1, .bound = true}).cores, std::vector<int>{2});
  EXPECT_EQ(ShareOf({.cores = {0, 1, 2, 3}, .index = 1, .ranks = 2, .threads = 2}).cores, (std::vector<int>{2, 3}));
  const CpuOptions many = ShareOf({.cores = {0, 1}, .ranks = 2, .threads = 3});
  EXPECT_EQ(many.threads, 3);
  EXPECT_TRUE(many.cores.empty());
}

// Two runs that know nothing of each other, each with fewer threads than the machine has cores: neither may claim the first core.
TEST(CoreShare, ARunThatLeavesCoresIdleIsNotPinnedUnlessALauncherBoundIt) {
  const CpuOptions share = ShareOf({.cores = {0, 1, 2, 3}, .threads = 2});
  EXPECT_EQ(share.threads, 2);
  EXPECT_TRUE(share.cores.empty());
}

TEST(CoreShare, RanksAsThreadsShareTheProcess) {
  const int allowed = ShareOfThisProcess();
  const int ranks = std::min(3, allowed);
  std::vector<CpuOptions> shares(static_cast<std::size_t>(ranks));
  const Status ran = RunThreadRanks(ranks, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(shares[static_cast<std::size_t>(world.rank())], ShareCores(world, 0));
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  std::multiset<int> cores;
  for (const CpuOptions& share : shares) cores.insert(share.cores.begin(), share.cores.end());
  EXPECT_EQ(static_cast<int>(cores.size()), allowed);                     // all of them,
  for (const int core : cores) EXPECT_EQ(cores.count(core), 1u) << core;  // each once
}

TEST(CoreShare, EachRanksOwnThreadStaysOnItsFirstCore) {
  const int ranks = std::min(3, ShareOfThisProcess());
  const Status ran = RunThreadRanks(ranks, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const CpuOptions share, ShareCores(world, 0));
    LYCIA_RETURN_IF_ERROR(world.Barrier());  // nobody is pinned before all have seen what the process has
    LYCIA_RETURN_IF_ERROR(PinRankThread(share));
    cpu_set_t mine;
    EXPECT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
    EXPECT_EQ(CPU_COUNT(&mine), 1);
    EXPECT_TRUE(CPU_ISSET(share.cores[0], &mine)) << "rank " << world.rank();
    EXPECT_EQ(sched_getcpu(), share.cores[0]);
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
}

TEST(CoreShare, AShareThatIsNotPinnedLeavesTheThreadToTheSystem) {
  const int allowed = ShareOfThisProcess();
  ASSERT_TRUE(PinRankThread({.threads = 2}).ok());
  EXPECT_EQ(ShareOfThisProcess(), allowed);
  EXPECT_EQ(PinRankThread({.threads = 1, .cores = {99999}}).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lycia
