// The trainer over NCCL, on an NCCL (runtime/comm/testing/fake_nccl.h) and on kernels of CUDA that need no GPU: what it computes against
// the independent serial truth, and that sums in rank order have the bits of threads.
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/testing/fake_nccl.h"
#include "runtime/comm/transports.h"
#include "runtime/device/testing/fake_cuda.h"
#include "tests/layouts/layout_run.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

Layout OnCuda(Layout layout) {
  layout.device = DeviceKind::kCuda;
  return layout;
}

RunsRanks OverNccl(const nccl::Options& options) {
  return [options](const Layout& layout, const std::function<Status(Communicator&)>& body) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const auto world, nccl::OpenThreadWorld(std::vector<int>(static_cast<std::size_t>(layout.ranks()), 0), options));
    return RunRanksOf(world, body);
  };
}

class NcclLayouts : public testing::Test {
 protected:
  ~NcclLayouts() override {
    EXPECT_EQ(fake_nccl::Alive(), 0);
    fake_nccl::Reset();
    fake_cuda::Reset();
  }

  static Record Run(const Layout& layout, const nccl::Options& options = {}) {
    StatusOr<Record> record = RunOnThreads(OnCuda(layout), nullptr, OverNccl(options));
    EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    return record.ok() ? *std::move(record) : Record();
  }
  static void ExpectTruth(const Layout& layout, const nccl::Options& options = {}) {
    const Record record = Run(layout, options);
    if (HasFailure()) return;
    const Status equal = CompareWithTruth(record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
};

TEST_F(NcclLayouts, PipelinesEqualTheTruth) {
  ExpectTruth({.schedule = "1f1b", .stages = 2, .micro_batches = 3, .samples = 1});
  ExpectTruth({.schedule = "chimera", .stages = 2, .micro_batches = 4, .samples = 1});
  ExpectTruth({.schedule = "chimera-zb", .stages = 2, .micro_batches = 4, .samples = 1, .tied = false});
}

TEST_F(NcclLayouts, ReplicasEqualTheTruth) {
  ExpectTruth({.schedule = "gpipe", .data = 2, .micro_batches = 1, .samples = 2});
  ExpectTruth({.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1});
  ExpectTruth({.schedule = "1f1b",
               .stages = 2,
               .data = 2,
               .micro_batches = 2,
               .samples = 1,
               .sync = schedule::GradientSyncMode::kEager,
               .update = schedule::UpdateMode::kEager,
               .clip = false});
}

TEST_F(NcclLayouts, TensorGridsEqualTheTruth) {
  for (Layout layout : GridLayouts()) {
    if (layout.schedule != "chimera" || layout.ranks() != 4) continue;  // two workers, twice: along x, y, z, and of replicas
    layout.micro_batches = 2;
    ExpectTruth(layout);
  }
}

TEST_F(NcclLayouts, OneStreamForAllCollectivesEqualsTheTruth) {
  ExpectTruth({.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1}, {.serial = true});
}

TEST_F(NcclLayouts, SumsInRankOrderHaveTheBitsOfThreads) {
  const Layout layout{.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1, .precision = DType::kF32};
  const Record over_nccl = Run(layout, {.sums = nccl::Sums::kInRankOrder});
  const StatusOr<Record> on_threads = RunOnThreads(OnCuda(layout));
  ASSERT_TRUE(on_threads.ok()) << on_threads.status();
  const Status same = CompareBitwise(over_nccl, *on_threads);
  EXPECT_TRUE(same.ok()) << same;
}

}  // namespace
}  // namespace lycia::layouts
