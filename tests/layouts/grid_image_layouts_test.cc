// Image models on tensor grids inside the trainer: grids x schedules x replicas train what the independent serial truth trains, running
// statistics included.
//
// What a wrong composition would still pass: one block (axes that are exchanged once hide), sizes that divide (padding hides), one
// statistic a rank, stride 1, states that every rank has whole. So there are stems, pools, blocks with and without a projection and of an
// odd number of convolutions, channels that three ranks do not divide, several statistics a micro-batch, masked labels.
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "runtime/device/testing/count_allocations.h"
#include "runtime/io/temp_directory.h"
#include "tests/layouts/checkpoint_run.h"
#include "tests/layouts/memory_watch.h"
#include "tests/layouts/random_images.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

struct Shape3 {
  int x, y, z;
};

Layout Cnn(const std::string& schedule, int stages, int data, const Shape3& grid, int samples, int micro_batches = 2) {
  return {.schedule = schedule,
          .stages = stages,
          .data = data,
          .micro_batches = micro_batches,
          .samples = samples,
          .masked = true,
          .x = grid.x,
          .y = grid.y,
          .z = grid.z,
          .images = SmallCnn()};
}

// Two blocks of every width, the first of three of them with a projection of stride 2.
Layout ResNet(const std::string& schedule, int stages, int data, const Shape3& grid, int samples) {
  Layout layout = Cnn(schedule, stages, data, grid, samples);
  layout.images = SmallResNet();
  return layout;
}

// Bottlenecks: an odd number of convolutions, a projection in the first of each group, of stride 1 in the very first.
Layout Bottlenecks(const std::string& schedule, int stages, const Shape3& grid, int samples) {
  Layout layout = ResNet(schedule, stages, 1, grid, samples);
  layout.images->kind = ImageModelKind::kResNet50;
  layout.images->height = 13, layout.images->width = 12;
  return layout;
}

Record RunOrFail(const Layout& layout) {
  StatusOr<Record> record = RunOnThreads(layout, [] { return std::make_unique<MemoryWatch>(); });
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps)};
}

// In the first `steps`. Dozens of batch norms of few values in a row multiply what rounding makes different: on a grid, where sums have
// another order, a hundred times a step and more. Of such models two steps are compared: the second has the first's weights and statistics.
void ExpectTruth(const Layout& layout, int steps = kSteps) {
  Record record = RunOrFail(layout), truth = TruthOf(layout);
  if (::testing::Test::HasFailure()) return;
  ASSERT_EQ(record.steps[0].states.size(), truth.steps[0].states.size()) << layout.Name();
  EXPECT_GE(record.hits, 0);
  record.steps.resize(static_cast<std::size_t>(steps));
  truth.steps.resize(static_cast<std::size_t>(steps));
  const Status equal = CompareWithTruth(record, truth);
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
}

TEST(GridImageLayouts, GridsSchedulesAndReplicasEqualTheTruth) {
  for (const Shape3& grid : {Shape3{1, 2, 1}, {2, 1, 1}, {1, 1, 2}, {2, 2, 1}}) {
    ExpectTruth(Cnn("gpipe", 1, 1, grid, 4));
    ExpectTruth(Cnn("chimera", 2, 1, grid, 4));
    ExpectTruth(Cnn("chimera-zb", 2, 1, grid, 4));
    ExpectTruth(Cnn("1f1b", 2, 2, grid, 4, /*micro_batches=*/1));
  }
  ExpectTruth(Cnn("gpipe", 1, 1, {2, 2, 2}, 8, /*micro_batches=*/1));
  ExpectTruth(Cnn("gpipe", 1, 1, {3, 2, 1}, 12, /*micro_batches=*/1));
  ExpectTruth(Cnn("gpipe", 1, 1, {1, 3, 1}, 12, /*micro_batches=*/1));  // two statistics a rank
}

TEST(GridImageLayouts, ResidualBlocksEqualTheTruth) {
  ExpectTruth(ResNet("1f1b", 2, 1, {2, 1, 1}, 8), 2);
  ExpectTruth(ResNet("chimera-zb", 2, 1, {1, 2, 1}, 8), 2);
  ExpectTruth(ResNet("chimera", 2, 1, {2, 2, 1}, 8), 2);
  ExpectTruth(ResNet("gpipe", 1, 2, {1, 1, 2}, 8), 2);
  ExpectTruth(ResNet("gpipe", 1, 1, {3, 1, 1}, 12), 2);
}

TEST(GridImageLayouts, BottlenecksEqualTheTruth) {
  ExpectTruth(Bottlenecks("gpipe", 1, {2, 2, 1}, 8), 2);
  ExpectTruth(Bottlenecks("chimera", 2, {3, 1, 1}, 12), 2);
  ExpectTruth(Bottlenecks("zb-h1", 2, {1, 1, 2}, 8), 2);
}

// What is gathered again, kept, packed or exchanged once a step changes bytes and memory, not results: filters are packed again when they
// have changed.
TEST(GridImageLayouts, EveryPolicyEqualsTheTruth) {
  for (const char* schedule : {"1f1b", "chimera-zb"}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
      Layout layout = ResNet(schedule, 2, 1, {2, 2, 1}, 8);
      layout.recompute = recompute;
      layout.policy = {.cache_inputs = false, .cache_weights = true, .cache_output_gradients = false};
      layout.packed_weights = recompute == Recompute::kNone ? PackedWeights::kOff : PackedWeights::kOn;
      ExpectTruth(layout, 2);
    }
    Layout layout = Bottlenecks(schedule, 2, {1, 2, 1}, 8);
    layout.weights_each_step = true;
    layout.packed_weights = PackedWeights::kOn;
    ExpectTruth(layout, 2);
  }
}

TEST(GridImageLayouts, OverlapAndRepetitionChangeNoBit) {
  for (const char* schedule : {"chimera", "chimera-zb"}) {
    Layout layout = ResNet(schedule, 2, 1, {2, 2, 1}, 8);
    layout.precision = DType::kBF16;
    const Record overlapped = RunOrFail(layout);
    Status same = CompareBitwise(RunOrFail(layout), overlapped);
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
    layout.policy.overlap = false;
    same = CompareBitwise(RunOrFail(layout), overlapped);
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
  }
}

// Against a serial run in the same type: the limits of image_layouts_test, but for bf16, where a sum of two ranks is rounded once more
// before the ReLUs and pools behind it: 17 % on conv1.
TEST(GridImageLayouts, F32AndBF16GradientsAreAsGoodAsThoseOfOneRank) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    Layout serial = Cnn("gpipe", 1, 1, {1, 1, 1}, 4, /*micro_batches=*/2);
    serial.precision = precision;
    const Record of_serial = RunOrFail(serial);
    for (const Shape3& grid : {Shape3{2, 1, 1}, {1, 2, 1}, {2, 2, 1}, {1, 1, 2}}) {
      Layout layout = Cnn("chimera", 2, 1, grid, 4, /*micro_batches=*/2);
      layout.precision = precision;
      const Tolerance tolerance = precision == DType::kF32 ? kF32Tolerance : Tolerance{.of_layer = 0.2, .rounding = 0x1p-9};
      const Status equal = CompareInLowPrecision(RunOrFail(layout), of_serial, TruthOf(layout), tolerance);
      EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
    }
  }
}

// A checkpoint of a grid continues on any other layout, and back: weights, averages and running statistics to the byte.
TEST(GridImageLayouts, CheckpointsHaveNoLayout) {
  const Layout whole = Cnn("1f1b", 2, 1, {1, 1, 1}, 4), padded = Cnn("gpipe", 1, 1, {3, 1, 1}, 6),
               square = Cnn("chimera", 2, 2, {2, 2, 1}, 4);
  for (const auto& [from, to] : {std::pair{padded, whole}, {whole, square}, {square, padded}, {padded, square}}) {
    const TempDirectory folder;
    const Status trained = TrainAndSave(from, folder / "first");
    ASSERT_TRUE(trained.ok()) << from.Name() << ": " << trained;
    const Status loaded = LoadAndSave(folder / "first", to, folder / "second");
    ASSERT_TRUE(loaded.ok()) << from.Name() << " to " << to.Name() << ": " << loaded;
    const StatusOr<CheckpointBytes> first = ReadAll(folder / "first"), second = ReadAll(folder / "second");
    ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
    EXPECT_TRUE(first->contains("state/bn1.running_mean [32]"));
    EXPECT_EQ(Differences(*first, *second), std::vector<std::string>()) << from.Name() << " to " << to.Name();
  }
}

TEST(GridImageLayouts, NothingIsAllocatedAfterTheFirstStep) {
  const Layout layout = ResNet("zb-h1", 2, 1, {2, 2, 1}, 8);
  const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    const std::unique_ptr<BatchSource> source = SourceOf(layout);
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    for (int step = 0; step < 2; ++step) LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, *source, 1e-3, false));
    LYCIA_RETURN_IF_ERROR(trainer->Evaluate(*source, 1).status());
    const std::int64_t before = testing::AllocationsOfThisThread();
    LYCIA_RETURN_IF_ERROR(trainer->TrainStep(2, *source, 1e-3, false));
    LYCIA_RETURN_IF_ERROR(trainer->Evaluate(*source, 1).status());
    EXPECT_EQ(testing::AllocationsOfThisThread() - before, 0) << "rank " << world.rank();
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST(GridImageLayouts, SizesThatDoNotFitAreRefused) {
  const auto message = [](Layout layout) { return std::string(RunOnThreads(layout).status().message()); };
  EXPECT_EQ(
      message(Cnn("gpipe", 1, 1, {2, 1, 2}, 6)),
      "grid 2 x 1 x 2: the 6 samples of a micro-batch (train.micro_batch) are cut by z, and then by x or y; use a multiple of 4, or a "
      "smaller grid");
  EXPECT_EQ(
      message(Cnn("gpipe", 1, 1, {2, 1, 1}, 6)),
      "grid 2 x 1 x 1: a batch norm over 2 samples (model.norm_samples) must lie on one rank, but of 6 samples of a micro-batch a rank "
      "has parts of 3; use model.norm_samples = 1, or train.micro_batch = 4");
  const std::string halves = message(Cnn("chimera-halving", 2, 1, {2, 1, 1}, 4, 4));
  EXPECT_NE(halves.find("parallel.schedule"), std::string::npos) << halves;
}

}  // namespace
}  // namespace lycia::layouts
