// The real step of the real code at rank counts that no machine here has: on the dry-run transport and a device without data, its counters
// must equal the formulas.
#include <gtest/gtest.h>

#include "launch/trainer.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

class NoBatches final : public BatchSource {
 public:
  void Load(std::int64_t, std::int64_t, std::int64_t, void*, std::int32_t*) const override {}
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count; }
};

constexpr std::int64_t kC = 32, kF = 96, kV = 48, kT = 16, kBlocks = 7, kSamples = 2, kMicroBatches = 8;

// Parameters of layers [begin, end) of the 2 L + 2 layers, untied: sizes by hand.
std::int64_t Parameters(int begin, int end) {
  std::int64_t n = 0;
  for (int i = begin; i < end; ++i) {
    if (i == 0)
      n += kV * kC + kT * kC;
    else if (i == 2 * kBlocks + 1)
      n += 2 * kC + kV * kC;
    else if (i % 2 == 1)
      n += 2 * kC + 3 * kC * kC + 3 * kC + kC * kC + kC;
    else
      n += 2 * kC + kC * kF + kF + kF * kC + kC;
  }
  return n;
}

// Sums the counters of all ranks for one step.
void CheckStep(const std::string& schedule, int stages, int replicas, int pipes) {
  SCOPED_TRACE(schedule + " D " + std::to_string(stages) + " W " + std::to_string(replicas));
  TrainerOptions options;
  options.device = DeviceKind::kShape;
  options.model = GptConfig{.layers = kBlocks, .heads = 4, .hidden = kC, .context = kT, .vocab = kV, .ffn = kF, .tied = false};
  options.schedule = schedule;
  options.stages = stages;
  options.data = replicas;
  options.micro_batches = kMicroBatches;
  options.samples_per_micro_batch = kSamples;
  options.optimizer.clip = 1;
  const int ranks = stages * replicas;
  std::int64_t reduce_scatter = 0, all_gather = 0;
  std::vector<int> cuts;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, ranks);
    StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(options, *world);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    ASSERT_TRUE((*trainer)->TrainStep(0, NoBatches(), 1e-3, false).ok());
    cuts = (*trainer)->cuts();
    const Counters& own = world->counters();
    // One Decide a step over the world: flags, a loss a sample, a sum a norm block; 2 (q-1)/q of the buffer, chunks differ by one element.
    const Counter decide = own.at(Operation::kAllReduce, Tag::kDecide);
    EXPECT_EQ(decide.calls, 1);
    for (const int group : (*trainer)->store().local_groups()) {
      const Counters& holders = (*trainer)->optimizer().holders(group)->counters();
      reduce_scatter += holders.at(Operation::kReduceScatter, Tag::kGradient).bytes;
      all_gather += holders.at(Operation::kAllGather, Tag::kWeight).bytes;
    }
    const Counters& pipeline = (*trainer)->pipeline().counters();
    const std::int64_t boundary = kSamples * kT * kC * 4;
    const int worker = rank % stages;
    std::int64_t sends = 0;
    if (pipes == 1) {
      sends = worker + 1 < stages ? kMicroBatches : 0;
    } else {
      // Down pipe: stage w, unless the last; up pipe: stage D-1-w, unless the last. Half of the micro-batches each.
      sends = (worker + 1 < stages ? kMicroBatches / 2 : 0) + (worker > 0 ? kMicroBatches / 2 : 0);
    }
    EXPECT_EQ(pipeline.at(Operation::kSend, Tag::kActivation), (Counter{sends, sends * boundary}));
    const std::int64_t back = pipes == 1 ? (worker > 0 ? kMicroBatches : 0) : sends;
    EXPECT_EQ(pipeline.at(Operation::kSend, Tag::kGradient), (Counter{back, back * boundary}));
  }
  // Every stage's gradients are reduce-scattered over its pipes * W holders: (q - 1) * n elements over all ranks; weights gathered
  // likewise.
  std::int64_t expected = 0;
  for (int stage = 0; stage < stages; ++stage) {
    const std::int64_t n = Parameters(cuts[static_cast<std::size_t>(stage)], cuts[static_cast<std::size_t>(stage) + 1]);
    expected += (pipes * replicas - 1) * n * 4;
  }
  EXPECT_EQ(reduce_scatter, expected);
  EXPECT_EQ(all_gather, expected);
}

// A pipeline of 4 with 2 replicas of a 2 x 2 x 2 grid: 64 ranks. A boundary carries the rank's own block of the residual and nothing else,
// and what replicas sum is an eighth of the stage.
TEST(DryRun, StageBoundariesOfAGridMoveTheResidualOnly) {
  TrainerOptions options;
  options.device = DeviceKind::kShape;
  options.model = GptConfig{.layers = kBlocks, .heads = 4, .hidden = kC, .context = kT, .vocab = kV, .ffn = kF, .tied = false};
  options.schedule = "chimera";
  options.stages = 4;
  options.data = 2;
  options.x = options.y = options.z = 2;
  options.micro_batches = kMicroBatches;
  options.samples_per_micro_batch = kSamples;
  constexpr int kRanks = 64, kGrid = 8;
  std::int64_t reduce_scatter = 0, sends = 0, bytes = 0;
  for (int rank = 0; rank < kRanks; ++rank) {
    const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, kRanks);
    StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(options, *world);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    ASSERT_TRUE((*trainer)->TrainStep(0, NoBatches(), 1e-3, false).ok());
    for (const Tag tag : {Tag::kActivation, Tag::kGradient}) {
      const Counter sent = (*trainer)->pipeline().counters().at(Operation::kSend, tag);
      sends += sent.calls, bytes += sent.bytes;
    }
    for (const int group : (*trainer)->store().local_groups()) {
      reduce_scatter += (*trainer)->optimizer().holders(group)->counters().at(Operation::kReduceScatter, Tag::kGradient).bytes;
    }
    EXPECT_GT((*trainer)->grid_bytes()[static_cast<std::size_t>(GridGroup::kY)], 0);
  }
  // 2 replicas, 8 micro-batches over 3 boundaries, there and back, from each of a grid's ranks.
  EXPECT_EQ(sends, 2 * kMicroBatches * 3 * 2 * kGrid);
  EXPECT_EQ(bytes, sends * kSamples * kT * kC * 4 / kGrid);
  // 4 holders (2 pipes x 2 replicas) of every parameter, whose parts are rounded up to the next of 16 elements.
  const std::int64_t exact = 3 * Parameters(0, 2 * kBlocks + 2) * 4;
  EXPECT_GE(reduce_scatter, exact);
  EXPECT_LE(reduce_scatter, exact + 3 * (12 * kBlocks + 5) * kGrid * 16 * 4);
}

TEST(DryRun, CountersOfAStepEqualTheFormulas) {
  CheckStep("1f1b", 4, 4, 1);
  CheckStep("gpipe", 1, 8, 1);
  CheckStep("chimera", 4, 4, 2);
  CheckStep("chimera", 8, 8, 2);
}

}  // namespace
}  // namespace lycia
