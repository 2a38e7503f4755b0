// A GPT on every kind of grid against the serial truth, and its messages against the closed forms.
//
// What would a wrong implementation still pass? A test with equal dimensions (exchanged axes hide), with one block (a layout that one block
// turns and the next does not turn back), without dropout or initial weights by index, with divisible sizes only. So all dimensions differ
// pairwise: B 6, T 24, tokens 144, H 36, D 2, C 72, 3C 216, F 360, V 90, context 26.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/grid/grid_bytes_for_test.h"
#include "tests/grid/grid_rank_for_test.h"

namespace lycia {
namespace {

GridCase Case(int x, int y, int z) {
  GridCase c{.x = x, .y = y, .z = z};
  c.options.model = {.layers = 2, .heads = 36, .hidden = 72, .context = 26, .vocab = 90, .ffn = 360, .dropout = 0.2, .init_std = 0.3};
  c.options.samples = 6;
  c.options.sequence = 24;
  return c;
}

// A quarter of the work, for what does not count bytes: H 12, D 3, C 36, 3C 108, F 60.
GridCase SmallCase(int x, int y, int z) {
  GridCase c = Case(x, y, z);
  c.options.model.heads = 12;
  c.options.model.hidden = 36;
  c.options.model.ffn = 60;
  return c;
}

void ExpectTruth(const GridCase& c, bool bytes) {
  SCOPED_TRACE(c.ToString());
  GridResult result;
  const Status run = RunGrid(c, result, {}, [&](const GridRank& rank) { return bytes ? CompareBytes(rank.grid(), c, 8, 1) : OkStatus(); });
  ASSERT_TRUE(run.ok()) << run;
  const Status same = CompareWithTruth(c, result, 1e-10);
  EXPECT_TRUE(same.ok()) << same;
}

// Every axis alone, pairs, cubes, and grids of unequal axes. Policies alternate, so that each meets several grids.
TEST(GridTruth, AllGridsEqualTheSerialModel) {
  constexpr int kGrids[][3] = {{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 2, 1}, {2, 2, 2}, {3, 2, 1}, {1, 3, 2},
                               {2, 1, 3}, {1, 6, 1}, {6, 1, 1}, {1, 1, 6}, {3, 2, 2}, {2, 3, 2}, {3, 2, 3}, {2, 2, 3}};
  int i = 0;
  for (const auto& [x, y, z] : kGrids) {
    GridCase c = Case(x, y, z);
    c.options.policy = {.cache_inputs = i % 2 == 0, .cache_weights = i % 3 == 0};
    c.options.model.tied = i % 4 != 1;
    c.micro_batches = i % 4 == 3 ? 2 : 1;
    ExpectTruth(c, /*bytes=*/true);
    ++i;
  }
  for (const int y : {2, 3}) {
    GridCase c = Case(2, y, 1);
    c.options.samples = 1;
    c.micro_batches = 3;
    ExpectTruth(c, /*bytes=*/true);
  }
}

// Zero bubble: weight gradients long after input gradients, dY gathered again or kept; tied tables on two ranks; weights once a step;
// recomputed forwards; another order of ranks.
TEST(GridTruth, SchedulesAndPoliciesEqualTheSerialModel) {
  GridCase split = Case(2, 2, 2);
  split.split = true;
  split.options.policy.cache_output_gradients = false;
  ExpectTruth(split, /*bytes=*/true);
  split.options.policy = {.cache_inputs = false, .cache_output_gradients = true};
  ExpectTruth(split, /*bytes=*/true);
  GridCase apart = SmallCase(2, 2, 2);
  apart.options.tied_in_one_stage = false;
  ExpectTruth(apart, /*bytes=*/false);
  GridCase each_step = SmallCase(2, 1, 3);
  each_step.options.weights_each_step = true;
  ExpectTruth(each_step, /*bytes=*/false);
  GridCase recompute = SmallCase(1, 2, 2);
  recompute.recompute = Recompute::kLayers;
  recompute.order = "data,context,expert,pipeline,x,y,z";
  ExpectTruth(recompute, /*bytes=*/false);
}

// Fewer key/value heads than heads: whole heads on each part; one head for several parts of one y; one head for parts of several y; one
// for all. On 3 x 2 parts and 3 heads, two parts of one head lie on different y.
TEST(GridTruth, GroupedQueriesEqualTheSerialModel) {
  constexpr int kCases[][4] = {{2, 2, 1, 4}, {3, 1, 2, 1}, {2, 3, 1, 3}, {3, 2, 1, 3}, {3, 2, 1, 2},
                               {2, 2, 2, 1}, {1, 6, 1, 2}, {2, 1, 3, 4}, {2, 2, 2, 2}, {1, 4, 3, 1}};
  int i = 0;
  for (const auto& [x, y, z, kv_heads] : kCases) {
    GridCase c = SmallCase(x, y, z);
    c.options.model.kv_heads = kv_heads;
    c.options.weights_each_step = i == 5;
    c.options.policy = {.cache_inputs = i % 2 == 0, .cache_weights = i % 3 == 0};
    c.micro_batches = i++ == 8 ? 2 : 1;
    ExpectTruth(c, /*bytes=*/!c.options.weights_each_step);
  }
}

// RMS norms in parts, gate and up of the same hidden units, no biases; FFN padded in both; key/value heads shared, one each, several.
TEST(GridTruth, LlamaEqualsTheSerialModel) {
  constexpr int kCases[][5] = {{1, 1, 1, 2, 60}, {2, 1, 1, 4, 60}, {1, 2, 1, 12, 61}, {1, 1, 2, 1, 60},
                               {2, 2, 2, 4, 63}, {3, 2, 1, 2, 61}, {2, 3, 1, 3, 58}};
  int i = 0;
  for (const auto& [x, y, z, kv_heads, ffn] : kCases) {
    GridCase c = SmallCase(x, y, z);
    GptConfig& model = c.options.model;
    model.family = GptFamily::kLlama;
    model.position = PositionEncoding::kRotary;
    model.hidden = 48;  // heads of 4 features
    model.norm_eps = 0.01;
    model.kv_heads = kv_heads;
    model.ffn = ffn;
    model.tied = i % 2 == 0;
    c.options.policy = {.cache_inputs = i % 2 == 0, .cache_weights = i % 3 == 0};
    c.split = i % 3 == 1;
    c.micro_batches = i++ == 4 ? 2 : 1;
    ExpectTruth(c, /*bytes=*/true);
  }
}

// Vocabulary and FFN that y does not divide, one of them smaller than the padding makes the last part; owners' parts of unequal size: with
// 4 x 3 x 2 a block of the table has 15 x 9 elements and two owners.
TEST(GridTruth, PaddedSizesEqualTheSerialModel) {
  constexpr int kCases[][5] = {{2, 3, 1, 88, 179}, {1, 6, 1, 43, 61}, {2, 2, 3, 89, 175}, {1, 6, 1, 7, 9},
                               {3, 2, 1, 91, 5},   {4, 1, 2, 43, 61}, {4, 3, 2, 43, 61}};
  for (const auto& [x, y, z, vocabulary, ffn] : kCases) {
    GridCase c = SmallCase(x, y, z);
    c.options.model.vocab = vocabulary;
    c.options.model.ffn = ffn;
    c.options.model.tied = vocabulary != 89;
    c.micro_batches = 1;
    ExpectTruth(c, /*bytes=*/true);
  }
}

// Single precision by the contract of docs/numerics.md, on grids that cut all axes and one.
TEST(GridTruth, SinglePrecisionIsAsGoodAsTheSerialRun) {
  constexpr int kGrids[][3] = {{1, 2, 1}, {2, 1, 1}, {1, 1, 3}, {2, 2, 2}, {3, 2, 1}};
  for (const auto& [x, y, z] : kGrids) {
    GridCase c = SmallCase(x, y, z);
    c.micro_batches = 1;
    SCOPED_TRACE(c.ToString());
    GridResult result;
    const Status run = RunGridInF32(c, result);
    ASSERT_TRUE(run.ok()) << run;
    const Status same = CompareF32WithTruth(c, result);
    EXPECT_TRUE(same.ok()) << same;
  }
}

// The layers without a grid, with 2 key/value heads for 12 heads.
TEST(GridTruth, SerialLayersWithGroupedQueriesEqualTheSerialModel) {
  GridCase c = SmallCase(1, 1, 1);
  c.options.model.kv_heads = 2;
  c.micro_batches = 1;
  const GptConfig& model = c.options.model;
  const truth::TokenBatch batch = RandomBatch(c);
  truth::SerialGpt<double> serial(TruthSizes(model), {.seed = kGridSeed, .std = model.init_std, .dropout = model.dropout});
  const TensorSpec tokens{DType::kI32, {c.options.samples, c.options.sequence}};
  const std::unique_ptr<LayerStage> stage = LayerStage::Create(GptLayers(model), {tokens}, {.compute = DType::kF64}).value();
  StageMemoryForTest memory(*stage, 1);
  for (auto& [name, weight] : memory.weights()) weight = serial.weights().at(name);
  const StageSlots slots{.stash = 0, .input = 0, .handoff = 0};
  std::ranges::copy(batch.tokens, static_cast<std::int32_t*>(stage->input(slots)));
  std::ranges::copy(batch.labels, static_cast<std::int32_t*>(stage->labels(slots)));
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Stream> stream = device->NewStream().value();
  const double loss_tokens = static_cast<double>(std::ranges::count_if(batch.labels, [](int label) { return label >= 0; }));
  std::vector<double> losses(6);
  StageContext context{
      .stream = stream.get(), .seed = kGridSeed, .samples = {0, 6}, .gradient_scale = 1 / loss_tokens, .sample_losses = losses.data()};
  stage->Forward(context, slots, nullptr);
  stage->Backward(context, slots, nullptr, nullptr);
  EXPECT_NEAR(std::accumulate(losses.begin(), losses.end(), 0.0) / loss_tokens, serial.Step(batch).loss, 1e-12);
  for (const auto& [name, gradient] : serial.gradients()) {
    std::vector<double> sum = memory.gradients().at(name);
    if (name == "wte.weight") std::ranges::transform(sum, memory.gradients().at("wte.weight#1"), sum.begin(), std::plus<>());
    double largest = 0;
    for (const double value : gradient) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(sum[i], gradient[i], 1e-10 * largest) << name << " element " << i;
  }
}

}  // namespace
}  // namespace lycia
