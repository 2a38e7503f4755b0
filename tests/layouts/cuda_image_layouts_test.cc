// Image models in the trainer on a GPU, all ranks on the first one: against the independent serial truth, running statistics included, and
// again to the bit. Compiled twice, as cuda_layouts_test.cc is: for CUDA's kernels run on the CPU, and for a GPU.
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "launch/reuse_rates.h"
#include "runtime/device/device.h"
#include "runtime/io/temp_directory.h"
#include "tests/layouts/checkpoint_run.h"
#include "tests/layouts/random_images.h"
#include "tests/layouts/reuse_run.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

Layout OnCuda(Layout layout) {
  layout.device = DeviceKind::kCuda;
  return layout;
}

Layout Cnn(const std::string& schedule, int stages, int data, int micro_batches, DType precision = DType::kF64) {
  return {.schedule = schedule,
          .stages = stages,
          .data = data,
          .micro_batches = micro_batches,
          .samples = 2,
          .masked = true,
          .precision = precision,
          .images = SmallCnn()};
}

class CudaImageLayouts : public testing::Test {
 protected:
  void SetUp() override {
    const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    if (!device.ok()) GTEST_SKIP() << device.status().message();
  }
  static Record Run(const Layout& layout) {
    StatusOr<Record> record = RunOnThreads(layout);
    EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps)};
  }
  static void ExpectTruth(const Layout& layout) {
    const Record record = Run(OnCuda(layout));
    if (HasFailure()) return;
    ASSERT_EQ(record.steps[0].states.size(), TruthOf(layout).steps[0].states.size()) << layout.Name();
    EXPECT_GE(record.hits, 0);
    const Status equal = CompareWithTruth(record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
};

TEST_F(CudaImageLayouts, RanksReplicasAndPipelinesEqualTheTruth) {
  ExpectTruth(Cnn("gpipe", 1, 1, 2));
  ExpectTruth(Cnn("gpipe", 1, 2, 1));
  ExpectTruth(Cnn("chimera", 2, 1, 2));
}

// Residual blocks with and without a projection, split backwards.
TEST_F(CudaImageLayouts, ResidualBlocksEqualTheTruth) {
  Layout layout = Cnn("chimera-zb", 2, 1, 2);
  layout.samples = 4;
  layout.images = SmallResNet();
  ExpectTruth(layout);
}

TEST_F(CudaImageLayouts, ATensorGridEqualsTheTruth) {
  Layout layout = Cnn("gpipe", 1, 1, 1);
  layout.x = layout.y = 2;
  layout.samples = 4;
  ExpectTruth(layout);
}

// The contract of f32 and bf16 (docs/numerics.md), beside a serial run on the CPU; bf16's limit is image_layouts_test's.
TEST_F(CudaImageLayouts, F32AndBF16AreAsNearAsTheCpu) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    const Record of_cpu = Run(Cnn("gpipe", 1, 1, 4, precision));
    for (const Layout& layout : {Cnn("gpipe", 1, 1, 4, precision), Cnn("gpipe", 1, 2, 2, precision), Cnn("chimera", 2, 1, 4, precision)}) {
      const Record record = Run(OnCuda(layout));
      if (HasFailure()) return;
      const Tolerance tolerance = precision == DType::kF32 ? kF32Tolerance : Tolerance{.of_layer = 0.16, .rounding = 0x1p-9};
      const Status near = CompareInLowPrecision(record, of_cpu, TruthOf(layout), tolerance);
      EXPECT_TRUE(near.ok()) << layout.Name() << ": " << near;
    }
  }
}

// f16 beside one rank of the same device: there is none on the CPU. Three bits more than bf16.
TEST_F(CudaImageLayouts, F16IsAsNearAsOneRank) {
  const Record of_one = Run(OnCuda(Cnn("gpipe", 1, 1, 2, DType::kF16)));
  const Layout layout = Cnn("chimera", 2, 1, 2, DType::kF16);
  const Record record = Run(OnCuda(layout));
  if (HasFailure()) return;
  const Status near = CompareInLowPrecision(record, of_one, TruthOf(layout), {.of_layer = 0.16 / 8, .rounding = 0x1p-12});
  EXPECT_TRUE(near.ok()) << near;
}

TEST_F(CudaImageLayouts, RunsHaveTheSameBitsAndLayoutsTheSameStatistics) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    const Record serial = Run(OnCuda(Cnn("gpipe", 1, 1, 4, precision)));
    for (const Layout& layout : {Cnn("gpipe", 1, 2, 2, precision), Cnn("chimera", 2, 1, 4, precision)}) {
      const Record first = Run(OnCuda(layout));
      if (HasFailure()) return;
      const Status same = CompareBitwise(first, Run(OnCuda(layout)));
      EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
      const Tensors &states = first.steps[0].states, &expected = serial.steps[0].states;
      ASSERT_EQ(states.size(), 4u);
      for (const auto& [name, values] : states) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          ASSERT_EQ(std::bit_cast<std::uint64_t>(values[i]), std::bit_cast<std::uint64_t>(expected.at(name)[i]))
              << layout.Name() << ": " << name << "[" << i << "]";
        }
      }
    }
  }
}

// Patches computed once. Random pixels hardly repeat; rounded to steps as wide as their range many do.
Layout WithReuse(Layout layout, ReusePolicy policy) {
  layout.reuse = ReuseTrainingOf(policy, /*always=*/true);
  layout.reuse->controller.budget = 1;
  if (policy != ReusePolicy::kExact) layout.reuse->controller.first_width = policy == ReusePolicy::kLsh ? 16 : 5.5;
  return layout;
}

TEST_F(CudaImageLayouts, ExactReuseOfPatchesEqualsTheTruth) {
  const Layout layout = WithReuse(Cnn("chimera", 2, 1, 2), ReusePolicy::kExact);
  ReuseSeen seen;
  const Record record = TrainAndLook(OnCuda(layout), &seen);
  if (HasFailure()) return;
  const Status equal = CompareWithTruth(record, TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  EXPECT_GE(seen.reused, layout.ranks());
}

// Means of alike patches are the CPU's, forward and backward, and so are decisions.
TEST_F(CudaImageLayouts, ReuseOfAlikePatchesEqualsTheCpus) {
  const Layout layout = WithReuse(Cnn("gpipe", 1, 1, 2), ReusePolicy::kQuantized);
  ReuseSeen seen, of_cpu;
  const Record record = TrainAndLook(OnCuda(layout), &seen), expected = TrainAndLook(layout, &of_cpu);
  if (HasFailure()) return;
  const Status equal = CompareWithTruth(record, expected);
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  EXPECT_GT(seen.reused, 0);
  EXPECT_LT(seen.least_ratio, 0.9);
  EXPECT_EQ(seen.least_ratio, of_cpu.least_ratio);
  EXPECT_EQ(seen.reused, of_cpu.reused);
  EXPECT_FALSE(CompareWithTruth(record, TruthOf(layout)).ok()) << "nothing was approximated";
}

TEST_F(CudaImageLayouts, ReusedPatchesHaveTheSameBits) {
  for (const auto& [policy, precision] :
       {std::pair(ReusePolicy::kExact, DType::kBF16), {ReusePolicy::kQuantized, DType::kF16}, {ReusePolicy::kLsh, DType::kBF16}}) {
    const Layout layout = OnCuda(WithReuse(Cnn("chimera", 2, 1, 2, precision), policy));
    ReuseSeen seen, again;
    const Record first = TrainAndLook(layout, &seen);
    if (HasFailure()) return;
    const Status same = CompareBitwise(first, TrainAndLook(layout, &again));
    EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
    EXPECT_GT(seen.reused, 0) << layout.Name();
    EXPECT_TRUE(policy == ReusePolicy::kExact || seen.least_ratio < 1) << layout.Name();
    EXPECT_EQ(seen.states, again.states) << layout.Name();
  }
}

// What decisions are made by on a GPU.
TEST_F(CudaImageLayouts, RatesOfProductsAndConvolutionsAreMeasured) {
  const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
  ASSERT_TRUE(device.ok()) << device.status();
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const StatusOr<GpuRates> rates = MeasureGpuRates(**device, dtype, {.width = 40, .images = 1, .image_width = 5, .channels = 8});
    ASSERT_TRUE(rates.ok()) << Name(dtype) << ": " << rates.status();
    for (const ReuseRates& r : {rates->rows, rates->patches}) {
      for (const double rate : {r.flops, r.mapped_flops, r.bytes_per_s}) EXPECT_TRUE(rate > 0 && std::isfinite(rate)) << Name(dtype);
    }
  }
}

TEST_F(CudaImageLayouts, CheckpointsGoFromDeviceToDevice) {
  Layout on_cpu = Cnn("gpipe", 1, 1, 2, DType::kF32), on_cuda = OnCuda(Cnn("chimera", 2, 2, 1, DType::kF32));
  for (const auto& [from, to] : {std::pair{on_cuda, on_cpu}, {on_cpu, on_cuda}}) {
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

// CUDA's kernels read weights as they are.
TEST_F(CudaImageLayouts, NothingIsReservedForPackedWeights) {
  Layout layout = Cnn("gpipe", 1, 1, 2, DType::kBF16);
  layout.packed_weights = PackedWeights::kOn;
  for (const bool cuda : {false, true}) {
    const Layout on = cuda ? OnCuda(layout) : layout;
    const Status ran = OnRanks(on, [&](Communicator& world) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(on), world));
      std::int64_t packed = 0;
      for (const auto& [key, stage] : trainer->stages()) packed += stage->packed_bytes();
      EXPECT_EQ(packed > 0, !cuda);
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
}

}  // namespace
}  // namespace lycia::layouts
