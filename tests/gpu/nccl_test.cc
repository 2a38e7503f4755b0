// The real NCCL: that it links, and, where there is a GPU, the conformance suite over it. One rank always works; several ranks on one GPU
// need NCCL 2.30 and NCCL_MULTI_RANK_GPU_ENABLE=1, several GPUs nothing. What cannot run is skipped, with the reason.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/transports.h"
#include "tests/gpu/pinned_pool.h"

namespace lycia {
namespace {

int Gpus() {
  int count = 0;
  while (NewCudaDevice(count).ok()) ++count;
  return count;
}

TEST(Nccl, IsLinked) { EXPECT_NE(nccl::Version(), "unknown"); }

TEST(Nccl, WithoutAGpuAWorldSaysSo) {
  if (Gpus() > 0) GTEST_SKIP() << "there is a GPU";
  const Status status = nccl::OpenThreadWorld({0}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

void RunSuite(const std::vector<int>& devices, nccl::Sums sums) {
  const PinnedOperandsOfSuite pinned;
  conformance::sums_in_rank_order = sums == nccl::Sums::kInRankOrder;
  for (const ConformanceCase& test : AllConformanceCases()) {
    // NCCL may take a small message before its receive is posted; these two ask that it does not.
    const bool confirmed = test.name == "ASendWaitsForAPostedReceive" || test.name == "AReleaseWaitsForItsReader";
    if (confirmed && devices.size() > 1) continue;
    auto world = nccl::OpenThreadWorld(
        devices,
        {.sums = sums, .setup_patience = std::chrono::milliseconds(60'000), .operation_patience = std::chrono::milliseconds(60'000)});
    ASSERT_TRUE(world.ok()) << world.status();
    const Status status = RunRanksOf(*world, test.run);
    EXPECT_TRUE(status.ok()) << test.name << " on " << devices.size() << " ranks: " << status;
  }
  conformance::sums_in_rank_order = true;
}

TEST(Nccl, TheSuiteHoldsForOneRank) {
  if (Gpus() == 0) GTEST_SKIP() << NewCudaDevice(0).status().message();
  RunSuite({0}, nccl::Sums::kLibrary);
  RunSuite({0}, nccl::Sums::kInRankOrder);
}

TEST(Nccl, TheSuiteHoldsForEveryGpu) {
  const int gpus = Gpus();
  if (gpus < 2) GTEST_SKIP() << "needs two GPUs, and there are " << gpus;
  std::vector<int> devices;
  for (int g = 0; g < gpus && g < 4; ++g) devices.push_back(g);
  RunSuite(devices, nccl::Sums::kLibrary);
  RunSuite(devices, nccl::Sums::kInRankOrder);
}

TEST(Nccl, SeveralRanksOnOneGpu) {
  if (Gpus() == 0) GTEST_SKIP() << NewCudaDevice(0).status().message();
  auto world = nccl::OpenThreadWorld({0, 0}, {.setup_patience = std::chrono::milliseconds(30'000)});
  if (!world.ok()) {
    GTEST_SKIP() << "NCCL " << nccl::Version()
                 << " refuses two ranks on one GPU (2.30 with NCCL_MULTI_RANK_GPU_ENABLE=1 does not): " << world.status().message();
  }
  const Status status = RunRanksOf(*world, [](Communicator& ranks) { return ranks.Barrier(); });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace lycia
