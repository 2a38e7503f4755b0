// Image models on every layout: what the serial truth computes, running statistics included, and what holds bit for bit.
//
// A wrong layout would be caught only if the model has what layouts get wrong: statistics over samples of several micro-batches, stages
// without parameters, outputs that the backward reads and that go to another rank, labels that are no loss tokens.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/generators.h"
#include "runtime/comm/transports.h"
#include "runtime/device/testing/count_allocations.h"
#include "tests/layouts/random_images.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

Record RunOrFail(const Layout& layout) {
  StatusOr<Record> record = RunOnThreads(layout);
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps)};
}

void ExpectTruth(const Layout& layout) {
  const StatusOr<Record> record = RunOnThreads(layout);
  ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  ASSERT_EQ(record->steps[0].states.size(), TruthOf(layout).steps[0].states.size()) << layout.Name();
  const Status equal = CompareWithTruth(*record, TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
}

void ExpectSameBits(const Layout& a, const Layout& b) {
  const Status same = CompareBitwise(RunOrFail(a), RunOrFail(b));
  EXPECT_TRUE(same.ok()) << a.Name() << " against " << b.Name() << ": " << same;
}

Layout Cnn(const std::string& schedule, int stages, int data, int micro_batches, int samples = 2) {
  return {.schedule = schedule,
          .stages = stages,
          .data = data,
          .micro_batches = micro_batches,
          .samples = samples,
          .masked = true,
          .images = SmallCnn()};
}

Layout ResNet(const std::string& schedule, int stages, int data, int micro_batches) {
  Layout layout = Cnn(schedule, stages, data, micro_batches, /*samples=*/4);
  layout.images = SmallResNet();
  return layout;
}

TEST(ImageLayouts, DepthsReplicasAndMicroBatchesEqualTheTruth) {
  for (const int data : {1, 2, 4}) {
    ExpectTruth(Cnn("1f1b", 1, data, 2));
    ExpectTruth(Cnn("1f1b", 1, data, 1, 6));  // three statistics a micro-batch
  }
  for (const int data : {1, 2}) {
    for (const int stages : {2, 4}) {
      ExpectTruth(Cnn("1f1b", stages, data, 4));
      ExpectTruth(Cnn("chimera", stages, data, 4));
      ExpectTruth(Cnn("chimera", stages, data, 1));  // one pipe has no micro-batch
      ExpectTruth(Cnn("chimera", stages, data, 2, 4));
      ExpectTruth(ResNet("chimera", stages, data, 2));
    }
    ExpectTruth(ResNet("1f1b", 4, data, 2));
  }
  ExpectTruth(Cnn("1f1b", 6, 2, 3));  // a layer each: two stages have no parameters
  Layout four_pipes = Cnn("chimera", 4, 1, 4);
  four_pipes.pipes = 4;
  ExpectTruth(four_pipes);
}

// Schedules that divide micro-batches are refused with the reason and the remedy, on every rank; all others equal the truth.
TEST(ImageLayouts, EveryScheduleEqualsTheTruthOrIsRefused) {
  int refused = 0;
  for (const schedule::Generator& generator : schedule::Generators()) {
    if (std::string(generator.name) == "auto") continue;
    for (const int workers : {2, 4}) {
      const std::vector<Layout> all = LayoutsOf(generator.name, workers);
      if (all.empty()) continue;
      const bool many_stages =
          schedule::Generate(generator.name, {.workers = workers, .micro_batches = all.back().micro_batches})->shape.stages > 6;
      Layout layout = many_stages ? ResNet(generator.name, workers, 1, all.back().micro_batches)
                                  : Cnn(generator.name, workers, 1, all.back().micro_batches);
      if (all.back().samples > 1) {
        // Also by a rank that holds none of the layers with states.
        if (workers == 4 && layout.images->kind == ImageModelKind::kCnn) layout.partition = {3, 1, 1, 1};
        const Status status = RunOnThreads(layout).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << layout.Name() << ": " << status;
        EXPECT_NE(status.message().find("so that micro-batches cannot be divided; use a parallel.schedule that keeps them whole"),
                  absl::string_view::npos)
            << status;
        ++refused;
      } else {
        ExpectTruth(layout);
      }
    }
  }
  EXPECT_GE(refused, 2);  // chimera-halving
}

// "auto" chooses among all schedules, and must not choose one that the model refuses: where weight gradients are cheap, it is the
// halving one for a GPT.
TEST(ImageLayouts, AutoTakesAScheduleThatTheModelCanRun) {
  int halves = 0;
  for (const int workers : {2, 4}) {
    for (const int micro_batches : {workers, 2 * workers, 3 * workers}) {
      Layout images = ResNet("auto", workers, 1, micro_batches), gpt = images;
      gpt.images.reset();
      gpt.blocks = 5;
      for (const Layout& layout : {images, gpt}) {
        TrainerOptions options = OptionsOf(layout);
        options.device = DeviceKind::kShape;
        options.measured_costs = *schedule::ParseCosts("F=1,I=1.8,W=0.2");
        for (int rank = 0; rank < workers; ++rank) {
          const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, workers);
          const auto trainer = Trainer::Create(options, *world);
          ASSERT_TRUE(trainer.ok()) << layout.Name() << ": " << trainer.status();
          halves += !layout.images && (*trainer)->schedule().name == "chimera-halving" ? 1 : 0;
        }
      }
    }
    ExpectTruth(Cnn("auto", workers, 1, 2 * workers, 4));
  }
  EXPECT_GE(halves, 1);
}

TEST(ImageLayouts, RecomputeAndUnevenStagesEqualTheTruth) {
  for (const char* schedule : {"1f1b", "chimera", "zb-h1", "chimera-zb"}) {
    const Layout plain = Cnn(schedule, 2, 2, 4);
    for (const Recompute recompute : {Recompute::kLayers, Recompute::kStage}) {
      Layout layout = plain;
      layout.recompute = recompute;
      if (std::string(schedule).find("zb") != std::string::npos) ExpectTruth(layout);
      // A backward in one piece computes the same bits.
      if (std::string(schedule).find("zb") == std::string::npos) ExpectSameBits(plain, layout);
      layout = ResNet(schedule, 2, 1, 2);
      layout.recompute = recompute;
      ExpectTruth(layout);
    }
    // The convolution's output, which its backward reads, is a message; the pool's input is one.
    for (const std::vector<std::int64_t>& partition : {std::vector<std::int64_t>{1, 5}, {3, 3}, {5, 1}}) {
      Layout layout = plain;
      layout.partition = partition;
      ExpectTruth(layout);
    }
  }
}

// Everything a layout may change without changing a bit.
TEST(ImageLayouts, PromisedBitsAreTheSame) {
  for (const DType precision : {DType::kF64, DType::kF32, DType::kBF16}) {
    Layout serial = Cnn("gpipe", 1, 1, 4);
    serial.precision = precision;
    const Record bits = RunOrFail(serial);
    const auto expect_same = [&](const Layout& layout) {
      const Status same = CompareBitwise(RunOrFail(layout), bits);
      EXPECT_TRUE(same.ok()) << layout.Name() << " against " << serial.Name() << ": " << same;
    };
    expect_same(serial);
    for (const char* schedule : {"gpipe", "1f1b"}) {
      for (const int stages : {1, 2, 4}) {
        Layout layout = serial;
        layout.schedule = schedule;
        layout.stages = stages;
        expect_same(layout);
      }
    }
    for (const int threads : {2, 3}) {
      Layout layout = serial;
      layout.threads = threads;
      expect_same(layout);
    }
    for (const PackedWeights packed : {PackedWeights::kOn, PackedWeights::kOff}) {
      Layout layout = serial;
      layout.packed_weights = packed;
      expect_same(layout);
    }
  }
  const Layout chimera = Cnn("chimera", 2, 2, 4);
  ExpectSameBits(chimera, chimera);
  for (const schedule::GradientSyncMode sync : {schedule::GradientSyncMode::kLazy, schedule::GradientSyncMode::kEager}) {
    Layout layout = chimera;
    layout.sync = sync;
    ExpectSameBits(chimera, layout);
  }
  Layout decided = chimera;
  decided.clip = false;
  Layout eager = decided;
  eager.update = schedule::UpdateMode::kEager;
  ExpectSameBits(decided, eager);
}

// Statistics are taken over fixed samples and merged in their order: after the first step, which every layout begins with the same weights,
// the running ones have the same bits whatever the micro-batches, pipes, replicas and schedule.
TEST(ImageLayouts, RunningStatisticsHaveTheSameBitsOnEveryLayout) {
  for (const DType precision : {DType::kF64, DType::kF32, DType::kBF16}) {
    Layout serial = Cnn("gpipe", 1, 1, 8);
    serial.precision = precision;
    const Tensors expected = RunOrFail(serial).steps[0].states;
    ASSERT_EQ(expected.size(), 4u);
    for (Layout layout :
         {Cnn("gpipe", 1, 1, 1, 16), Cnn("1f1b", 1, 1, 4, 4), Cnn("1f1b", 1, 2, 4), Cnn("1f1b", 1, 4, 2), Cnn("1f1b", 1, 4, 1, 4),
          Cnn("1f1b", 4, 2, 4), Cnn("chimera", 2, 1, 8), Cnn("chimera", 2, 2, 2, 4), Cnn("chimera", 4, 2, 4), Cnn("chimera", 4, 1, 1, 16),
          Cnn("zb-h1", 2, 1, 8), Cnn("zb-v", 2, 2, 4), Cnn("interleaved", 2, 1, 8)}) {
      layout.precision = precision;
      layout.threads = layout.ranks() == 1 ? 2 : 1;
      const Tensors states = RunOrFail(layout).steps[0].states;
      ASSERT_EQ(states.size(), expected.size()) << layout.Name();
      for (const auto& [name, values] : states) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          ASSERT_EQ(std::bit_cast<std::uint64_t>(values[i]), std::bit_cast<std::uint64_t>(expected.at(name)[i]))
              << layout.Name() << ": " << name << "[" << i << "] is " << values[i] << ", not " << expected.at(name)[i];
        }
      }
    }
  }
}

TEST(ImageLayouts, F32AndBF16GradientsAreAsGoodAsTheSerialRuns) {
  for (const char* schedule : {"1f1b", "chimera", "zb-h1"}) {
    Layout layout = Cnn(schedule, 2, 2, 2, 4);
    const Record& truth = TruthOf(layout);
    layout.precision = DType::kF32;
    Status equal = CompareInLowPrecision(RunOrFail(layout), TruthOf(layout, DType::kF32), truth, kF32Tolerance);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
    // A forward that is rounded to bf16 after every operation turns ReLUs and changes winners of pools: PyTorch in f64 with such rounding
    // is off by 14.5 % on conv1, as this is.
    layout.precision = DType::kBF16;
    Layout serial = Cnn("gpipe", 1, 1, 8);
    serial.precision = DType::kBF16;
    equal = CompareInLowPrecision(RunOrFail(layout), RunOrFail(serial), truth, {.of_layer = 0.16, .rounding = 0x1p-9});
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

// The trainer itself against PyTorch's three steps (tests/golden).
TEST(ImageLayouts, EqualPyTorch) {
  std::ifstream file("tests/golden/images_cnn.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  for (const DType precision : {DType::kF64, DType::kF32}) {
    Layout layout = Cnn("1f1b", 2, 1, 4);
    layout.precision = precision;
    const Record record = RunOrFail(layout);
    const bool f64 = precision == DType::kF64;
    const nlohmann::json& expected = golden[f64 ? "f64" : "f32"];
    for (int step = 0; step < kSteps; ++step) {
      const double tolerance = f64 ? 1e-10 : step == 0 ? 1e-6 : 1e-5, loss = expected["losses"][step], norm = expected["grad_norms"][step];
      EXPECT_NEAR(record.steps[step].loss, loss, tolerance * loss) << step;
      EXPECT_NEAR(record.steps[step].grad_norm, norm, tolerance * norm) << step;
    }
    const auto expect_tensors = [&](const nlohmann::json& tensors, const Tensors& actual, double tolerance) {
      ASSERT_EQ(tensors.size(), actual.size());
      for (const auto& [name, tensor] : tensors.items()) {
        for (std::size_t i = 0; i < tensor["index"].size(); ++i) {
          const std::size_t at = tensor["index"][i];
          EXPECT_NEAR(actual.at(name)[at], tensor["value"][i].get<double>(), tolerance * tensor["norm"].get<double>()) << name << " " << at;
        }
      }
    };
    expect_tensors(expected["states"], record.steps.back().states, f64 ? 1e-10 : 1e-5);
    if (f64) expect_tensors(expected["weights"], record.steps.back().weights, 1e-10);
  }
}

// A step whose numbers are not finite moves neither weights nor running statistics, on any rank.
TEST(ImageLayouts, AStepThatIsNotFiniteMovesNoStatistics) {
  const Layout layout = Cnn("chimera", 2, 2, 2);
  const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    const std::unique_ptr<BatchSource> source = SourceOf(layout);
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    const auto states = [&] {
      std::vector<double> all;
      for (const Trainer::OwnState& own : trainer->States()) {
        all.insert(all.end(), own.state.as<double>(), own.state.as<double>() + own.state.elements());
      }
      return all;
    };
    const std::vector<double> initial = states();
    LYCIA_RETURN_IF_ERROR(trainer->TrainStep(0, *source, 1e300, false));  // the weights are finite and no use any more
    EXPECT_TRUE(trainer->decision().finite);
    const std::vector<double> before = states();
    EXPECT_NE(before, initial);
    LYCIA_RETURN_IF_ERROR(trainer->TrainStep(1, *source, 1e-3, false));
    EXPECT_FALSE(trainer->decision().finite);
    EXPECT_EQ(states(), before) << "rank " << world.rank();
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST(ImageLayouts, NothingIsAllocatedAfterTheFirstStep) {
  for (const Layout& layout : {Cnn("1f1b", 1, 2, 2), Cnn("chimera", 2, 1, 4), ResNet("zb-h1", 2, 1, 2)}) {
    const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
      const std::unique_ptr<BatchSource> source = SourceOf(layout);
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
      LYCIA_RETURN_IF_ERROR(trainer->TrainStep(0, *source, 1e-3, false));
      const std::int64_t before = testing::AllocationsOfThisThread();
      for (int step = 1; step <= 3; ++step) LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, *source, 1e-3, false));
      LYCIA_RETURN_IF_ERROR(trainer->Evaluate(*source, kEvaluationBatches).status());
      EXPECT_EQ(testing::AllocationsOfThisThread() - before, 0) << layout.Name() << " rank " << world.rank();
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
}

// One replica of a state has one owner; every rank that holds the stage has it.
TEST(ImageLayouts, EachStateHasOneOwner) {
  const Layout layout = Cnn("chimera", 2, 2, 2);
  std::vector<int> owners(4), holders(4);
  std::vector<std::vector<Trainer::OwnState>> of_rank(static_cast<std::size_t>(layout.ranks()));
  const Status ran = RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
    std::vector<Trainer::OwnState>& mine = of_rank[static_cast<std::size_t>(world.rank())];
    for (Trainer::OwnState& own : mine = trainer->States()) {
      EXPECT_EQ(own.state.as<double>()[0], own.spec->name.ends_with("var") ? 1 : 0);
      own.spec = nullptr;  // goes with the trainer
    }
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  for (const std::vector<Trainer::OwnState>& mine : of_rank) {
    ASSERT_EQ(mine.size(), 4u);  // both stages are on every rank
    for (std::size_t i = 0; i < mine.size(); ++i) holders[i] += 1, owners[i] += mine[i].owner ? 1 : 0;
  }
  EXPECT_EQ(owners, std::vector<int>(4, 1));
  EXPECT_EQ(holders, std::vector<int>(4, 4));
}

TEST(ImageLayouts, SizesThatDoNotFitAreRefused) {
  const auto message = [](Layout layout) { return std::string(RunOnThreads(layout).status().message()); };
  Layout layout = Cnn("1f1b", 1, 1, 2, /*samples=*/3);
  EXPECT_EQ(message(layout),
            "conv1: a batch norm over 2 samples (model.norm_samples) does not divide 3 samples of a micro-batch "
            "(train.micro_batch); make it a divisor");
  layout = Cnn("1f1b", 7, 1, 2);
  EXPECT_NE(message(layout).find("6"), std::string::npos) << message(layout);
  layout = Cnn("1f1b", 2, 1, 2);
  layout.partition = {2, 5};
  EXPECT_NE(message(layout).find("6"), std::string::npos) << message(layout);
}

}  // namespace
}  // namespace lycia::layouts
