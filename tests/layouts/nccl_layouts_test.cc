// The trainer over NCCL, on an NCCL (runtime/comm/testing/fake_nccl.h) and on kernels of CUDA that need no GPU: what it computes against
// the independent serial truth, that sums in rank order have the bits of threads, and that gradient sums run beside the compute.
#include <atomic>
#include <barrier>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/testing/fake_nccl.h"
#include "runtime/comm/transports.h"
#include "runtime/device/cuda_stream.h"
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
  ExpectTruth({.schedule = "chimera", .stages = 4, .micro_batches = 4, .samples = 1, .masked = true});
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

// ---- Overlap: an order of events, not a time ----

constexpr std::chrono::seconds kPatience{60};

bool WithinPatience(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

int SumsLaunchedBy(int rank) {
  int count = 0;
  for (const std::string& launch : fake_nccl::LaunchesOf(rank)) count += launch.ends_with(" reduce-scatter") ? 1 : 0;
  return count;
}

// What both ranks saw in the steps in which sums were held back.
struct Overlap {
  std::barrier<> meet{2};
  std::atomic<int> sums_before_the_last_backward{0};  // ranks and steps in which a sum was on its stream before the last backward began
  std::atomic<int> compute_done{0};                   // in which the compute came to its end while no sum could
  std::atomic<int> steps{0};
  std::atomic<bool> own_streams{true};
};

// Lets no sum come to an end between the first backward of a step and its UPDATE: compute that waited for one would never end.
class Holding final : public RankWatch, public StepObserver {
 public:
  explicit Holding(Overlap& seen) : seen_(seen) {}

  StepObserver* observer() override { return this; }
  void Start(const Trainer& trainer, bool training) override {
    trainer_ = training ? const_cast<Trainer*>(&trainer) : nullptr;
    held_ = synced_ = counted_ = false;
  }
  Status Finish(const Trainer&, bool) override { return OkStatus(); }

  void Begin(const schedule::Instruction& instruction, const std::string&) override {
    using schedule::Op;
    if (trainer_ == nullptr) return;
    const int rank = trainer_->worker();
    if (instruction.op == Op::kBackward && !held_) Hold(rank);
    if (instruction.op == Op::kBackward && synced_ && !counted_) {
      counted_ = true;
      seen_.sums_before_the_last_backward += WithinPatience([&] { return SumsLaunchedBy(rank) > launched_; }) ? 1 : 0;
    }
    synced_ = synced_ || instruction.op == Op::kGradientSync;
    if (instruction.op == Op::kUpdate) LookAndRelease(rank);
  }
  void End(const schedule::Instruction&) override {}

 private:
  void Hold(int rank) {
    held_ = true;
    EXPECT_TRUE(trainer_->stream().Synchronize().ok());  // what the forwards waited for, such as weights of the step before, is there
    launched_ = SumsLaunchedBy(rank);
    seen_.meet.arrive_and_wait();
    if (rank == 0) fake_nccl::HoldCollectives(true);
    seen_.meet.arrive_and_wait();
  }
  void LookAndRelease(int rank) {
    const Event compute = trainer_->stream().Record();
    seen_.compute_done += WithinPatience([&] { return compute.Done(); }) ? 1 : 0;
    ++seen_.steps;
    const cudaStream_t own = cuda::TargetOf(trainer_->stream()).stream;
    if (fake_nccl::StreamsOf(rank).count(own) != 0) seen_.own_streams = false;
    seen_.meet.arrive_and_wait();
    if (rank == 0) fake_nccl::HoldCollectives(false);
    seen_.meet.arrive_and_wait();
  }

  Overlap& seen_;
  Trainer* trainer_ = nullptr;
  bool held_ = false, synced_ = false, counted_ = false;
  int launched_ = 0;
};

TEST_F(NcclLayouts, AGradientSumRunsBesideTheBackwardsThatFollowIt) {
  // Each worker holds both stages: the sum of one is under way while the other's backward is computed.
  const Layout layout{.schedule = "chimera", .stages = 2, .micro_batches = 2, .samples = 1, .sync = schedule::GradientSyncMode::kEager};
  Overlap seen;
  const StatusOr<Record> record = RunOnThreads(
      OnCuda(layout), [&] { return std::make_unique<Holding>(seen); }, OverNccl({}));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(seen.steps, 2 * kSteps);
  EXPECT_EQ(seen.sums_before_the_last_backward, 2 * kSteps);
  EXPECT_EQ(seen.compute_done, 2 * kSteps);
  EXPECT_TRUE(seen.own_streams);
  const Status equal = CompareWithTruth(*record, TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << equal;
}

}  // namespace
}  // namespace lycia::layouts
