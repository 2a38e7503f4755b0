// Llama in the trainer: RMS norms, SwiGLU, no biases, grouped queries, on pipelines, replicas and tensor grids, against the serial truth.
//
// What a wrong model would still pass: a norm without eps (so it is large here), as many key heads as heads, a gate and up that are cut in
// the middle of both (so FFN does not divide by y), a gated product whose halves are exchanged in both directions (the truth knows which).
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "parallel/schedule/generators.h"
#include "tests/layouts/memory_watch.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

Record RunOrFail(const Layout& layout) {
  StatusOr<Record> record = RunOnThreads(layout, [] { return std::make_unique<MemoryWatch>(); });
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps), 0};
}

void ExpectTruth(const Layout& layout) {
  const Status equal = CompareWithTruth(RunOrFail(layout), TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
}

// Heads of 4 features on half as many of keys and values.
Layout Llama(const char* schedule, int stages) {
  return {.schedule = schedule,
          .stages = stages,
          .micro_batches = 4,
          .samples = 2,
          .llama = true,
          .masked = true,
          .heads = 4,
          .kv_heads = 2,
          .width = 16};
}

TEST(LlamaLayouts, PipelinesAndReplicasEqualTheTruth) {
  for (const char* schedule : {"gpipe", "1f1b", "chimera", "chimera-zb", "zb-v"}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
      Layout layout = Llama(schedule, std::string(schedule) == "gpipe" ? 1 : 2);
      layout.recompute = recompute;
      layout.data = 2;
      ExpectTruth(layout);
      layout.tied = false;
      layout.dropout = 0;
      layout.data = 1;
      layout.packed_weights = PackedWeights::kOn;
      ExpectTruth(layout);
    }
  }
}

TEST(LlamaLayouts, EveryScheduleEqualsTheTruth) {
  for (const schedule::Generator& generator : schedule::Generators()) {
    Layout layout = LayoutsOf(generator.name, 2).back();
    layout.llama = true;
    ExpectTruth(layout);
  }
}

// 20 hidden units on 3 y are 7 each with one of padding, in gate and up. Key heads shared by parts, one each, and several.
TEST(LlamaLayouts, TensorGridsEqualTheTruth) {
  struct Shape {
    int x, y, z, kv_heads;
  };
  for (const Shape& grid :
       {Shape{2, 1, 1, 2}, {1, 2, 1, 6}, {1, 1, 2, 4}, {2, 2, 1, 1}, {2, 2, 2, 4}, {1, 3, 1, 3}, {2, 3, 1, 2}, {3, 2, 1, 12}}) {
    for (const char* schedule : {"gpipe", "chimera", "chimera-zb"}) {
      Layout layout = Llama(schedule, std::string(schedule) == "gpipe" ? 1 : 2);
      layout.x = grid.x, layout.y = grid.y, layout.z = grid.z;
      layout.heads = 12, layout.kv_heads = grid.kv_heads, layout.width = 24;
      layout.tied = grid.y != 2;
      ExpectTruth(layout);
      layout.policy = {.cache_inputs = false, .cache_weights = true, .cache_output_gradients = false};
      layout.recompute = Recompute::kLayers;
      ExpectTruth(layout);
      layout.policy = {};
      layout.weights_each_step = true;
      layout.data = grid.z == 1 && grid.x * grid.y <= 4 ? 2 : 1;
      ExpectTruth(layout);
    }
  }
}

TEST(LlamaLayouts, F32AndBF16AreAsGoodAsTheSerialRun) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    Layout serial = Llama("gpipe", 1);
    serial.precision = precision;
    Layout pipeline = Llama("chimera", 2), grid = Llama("1f1b", 2);
    grid.x = 2, grid.y = 2;
    const Record of_serial = RunOrFail(serial);
    for (Layout* layout : {&pipeline, &grid}) {
      layout->precision = precision;
      const Status equal =
          CompareInLowPrecision(RunOrFail(*layout), of_serial, TruthOf(*layout), precision == DType::kF32 ? kF32Tolerance : kBF16Tolerance);
      EXPECT_TRUE(equal.ok()) << layout->Name() << ": " << equal;
    }
  }
}

// What a model costs does not depend on how it is cut.
TEST(LlamaLayouts, FlopsAreTheModels) {
  std::vector<double> flops;
  for (const int y : {1, 2, 3}) {
    Layout layout = Llama("gpipe", 1);
    layout.y = y, layout.heads = 12, layout.kv_heads = 6, layout.width = 24;
    const Status ran = OnRanks(layout, [&](Communicator& world) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(OptionsOf(layout), world));
      if (world.rank() == 0) flops.push_back(trainer->flops_per_step());
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
  EXPECT_EQ(flops, std::vector<double>(3, flops.at(0)));
}

}  // namespace
}  // namespace lycia::layouts
