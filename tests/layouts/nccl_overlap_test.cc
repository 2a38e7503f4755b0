// That compute goes on while messages and sums are under way, told without a clock: on an NCCL that holds them until the sending rank's
// device has done the compute that must not wait for them. A trainer that waits there never ends its step, and fails by the deadline of the
// operation; one whose sums start after the compute has nothing to hold, which fails too.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
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

using schedule::Instruction;
using schedule::Op;

constexpr int kRanks = 2;
constexpr int kNothing = -1;

bool IsMessage(const std::string& launch) { return absl::StrContains(launch, " from "); }
bool IsSend(const std::string& launch) { return IsMessage(launch) && absl::EndsWith(launch, " send"); }

// The last instruction of `program` that computes.
int LastCompute(const std::vector<Instruction>& program) {
  int last = kNothing;
  for (std::size_t i = 0; i < program.size(); ++i) last = schedule::IsCompute(program[i].op) ? static_cast<int>(i) : last;
  return last;
}

// For every send of `program`, in order: the instruction that the device must get through while it is under way. It is the next one that
// computes, where that is of the same kind as the one that made the message: in the schedules below nothing it reads follows from it.
std::vector<int> ComputeBesideSends(const std::vector<Instruction>& program) {
  std::vector<int> beside;
  Op made_by = Op::kForward;
  std::size_t open = 0;  // sends since the last compute
  for (std::size_t i = 0; i < program.size(); ++i) {
    const Op op = program[i].op;
    if (op == Op::kSendActivation || op == Op::kSendGradient) {
      beside.push_back(kNothing);
      ++open;
    }
    if (!schedule::IsCompute(op)) continue;
    for (; open > 0; --open) beside[beside.size() - open] = op == made_by ? static_cast<int>(i) : kNothing;
    made_by = op;
  }
  return beside;
}

// One rank's step, as its device sees it.
struct Progress {
  std::atomic<int> passed = kNothing;  // the last compute instruction that the device has done
  std::atomic<bool> training = false;
  std::atomic<int> held = 0;  // launches that were kept waiting, counted as often as they asked
  // Of the step under way; written while nothing runs.
  int last_compute = kNothing;
  std::vector<int> beside_sends;
  int earlier_sends = 0;  // of steps before
};

class OverlapWatch final : public RankWatch, private StepObserver {
 public:
  explicit OverlapWatch(Progress* ranks) : ranks_(ranks) {}
  StepObserver* observer() override { return this; }
  void Start(const Trainer& trainer, bool training) override {
    own_ = ranks_ + trainer.worker();
    stream_ = cuda::TargetOf(const_cast<Trainer&>(trainer).stream()).stream;
    next_ = 0;
    const std::vector<Instruction>& program = trainer.schedule().program[static_cast<std::size_t>(trainer.worker())];
    own_->last_compute = LastCompute(program);
    own_->beside_sends = ComputeBesideSends(program);
    own_->earlier_sends = 0;
    for (const std::string& launch : fake_nccl::LaunchesOf(trainer.worker())) own_->earlier_sends += IsSend(launch) ? 1 : 0;
    own_->held = 0;
    own_->passed = kNothing;
    own_->training = training;
  }
  Status Finish(const Trainer& trainer, bool training) override {
    own_->training = false;
    if (!training || own_->held > 0) return OkStatus();
    return absl::InternalError(StrCat("worker ", trainer.worker(), " had nothing under way while its device computed"));
  }

 private:
  void Begin(const Instruction&, const std::string&) override {}
  void End(const Instruction& instruction) override {
    const int index = next_++;
    if (!own_->training || !schedule::IsCompute(instruction.op)) return;
    fake_cuda::EnqueueHostWork(stream_, [own = own_, index] { own->passed = index; });
  }

  Progress* const ranks_;
  Progress* own_ = nullptr;
  cudaStream_t stream_ = nullptr;
  int next_ = 0;
};

class NcclOverlap : public testing::Test {
 protected:
  ~NcclOverlap() override {
    EXPECT_EQ(fake_nccl::Alive(), 0);
    fake_nccl::Reset();
    fake_cuda::Reset();
  }

  // The numbers are those of the truth, however late messages come.
  void Train(Layout layout) {
    layout.device = DeviceKind::kCuda;
    ASSERT_EQ(layout.ranks(), kRanks);
    const RunsRanks over_nccl = [](const Layout& of, const std::function<Status(Communicator&)>& body) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const auto world, nccl::OpenThreadWorld(std::vector<int>(static_cast<std::size_t>(of.ranks()), 0),
                                                                     {.operation_patience = std::chrono::seconds(20)}));
      return RunRanksOf(world, body);
    };
    const StatusOr<Record> record = RunOnThreads(layout, [this] { return std::make_unique<OverlapWatch>(ranks_); }, over_nccl);
    ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    const Status equal = CompareWithTruth(*record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }

  void HoldSums() {
    fake_nccl::HoldLaunches([this](int rank, const std::string& launch, int) {
      Progress& own = ranks_[rank];
      if (IsMessage(launch) || !own.training || own.passed >= own.last_compute) return false;
      ++own.held;
      return true;
    });
  }
  void HoldSends() {
    fake_nccl::HoldLaunches([this](int rank, const std::string& launch, int number) {
      Progress& own = ranks_[rank];
      if (!IsSend(launch) || !own.training) return false;
      const auto send = static_cast<std::size_t>(number - own.earlier_sends);
      if (send >= own.beside_sends.size() || own.passed >= own.beside_sends[send]) return false;
      ++own.held;
      return true;
    });
  }

  Progress ranks_[kRanks];
};

TEST_F(NcclOverlap, GradientsAreSummedWhileOtherStagesCompute) {
  HoldSums();
  Train({.schedule = "chimera",
         .stages = 2,
         .micro_batches = 4,
         .samples = 1,
         .sync = schedule::GradientSyncMode::kEager,
         .tied = false});
}

TEST_F(NcclOverlap, MessagesTravelWhileTheNextMicroBatchComputes) {
  HoldSends();
  Train({.schedule = "gpipe", .stages = 2, .micro_batches = 4, .samples = 1});
}

}  // namespace
}  // namespace lycia::layouts
