// Layouts at random: schedule, grid, replicas, what a grid keeps, recompute, sums and updates, heads and labels together, against the
// truth. What only one combination breaks is found here; a failure names the layout and the seed.
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/schedule/generators.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

constexpr unsigned kLayoutSeed = 20261126;
constexpr int kHeadsOfAll = 12, kWidthOfAll = 24, kBlocksOfAll = 3, kMostRanks = 12;

// Fits its grid; whether its schedule takes it is the trainer's to say.
Layout RandomLayout(std::mt19937& random) {
  const auto pick = [&](const auto& list) { return list[random() % list.size()]; };
  const auto coin = [&] { return random() % 2 == 0; };
  using schedule::GradientSyncMode;
  const std::vector<std::string> schedules = {"gpipe", "1f1b", "chimera", "chimera-zb", "zb-h1", "zb-v", "dualpipe", "interleaved", "auto"};
  for (;;) {
    Layout layout{
        .schedule = pick(schedules),
        .stages = pick(std::vector<int>{1, 2, 2, 3}),
        .data = pick(std::vector<int>{1, 1, 2}),
        .micro_batches = pick(std::vector<int>{1, 2, 3, 4, 6}),
        .blocks = kBlocksOfAll,
        .sync = pick(std::vector<GradientSyncMode>{GradientSyncMode::kLazy, GradientSyncMode::kEager, GradientSyncMode::kEagerOpt}),
        .clip = coin(),
        .tied = coin(),
        .masked = coin(),
        .recompute = pick(std::vector<Recompute>{Recompute::kNone, Recompute::kLayers, Recompute::kStage}),
        .x = pick(std::vector<int>{1, 2, 3}),
        .y = pick(std::vector<int>{1, 2, 3}),
        .z = pick(std::vector<int>{1, 2, 3}),
        .heads = kHeadsOfAll,
        .kv_heads = pick(std::vector<int>{0, 1, 2, 3, 4, 6}),
        .width = kWidthOfAll,
        .policy = {.cache_inputs = coin(), .cache_weights = coin(), .cache_output_gradients = coin(), .overlap = coin()},
        .weights_each_step = random() % 4 == 0};
    layout.samples = layout.z * pick(std::vector<int>{1, 2});
    layout.rotary = coin();
    layout.llama = random() % 3 == 0;
    if (!layout.clip && coin()) layout.update = schedule::UpdateMode::kEager;
    const int parts = layout.x * layout.y, key_heads = layout.kv_heads == 0 ? layout.heads : layout.kv_heads;
    if (layout.x * layout.y * layout.z == 1 || layout.ranks() > kMostRanks || layout.heads % parts != 0) continue;
    if (key_heads % parts == 0 || parts % key_heads == 0) return layout;
  }
}

// `count` layouts that their schedules take.
template <typename Check>
void ForEachLayout(int count, DType precision, const Check& check) {
  std::mt19937 random(kLayoutSeed);
  for (int ran = 0, tried = 0; ran < count && tried < 10 * count; ++tried) {
    Layout layout = RandomLayout(random);
    layout.precision = precision;
    const StatusOr<Record> record = RunOnThreads(layout);
    if (record.status().code() == absl::StatusCode::kInvalidArgument) continue;
    ++ran;
    ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    const Status equal = check(layout, *record);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ", layout " << tried << " of seed " << kLayoutSeed << ": " << equal;
  }
}

TEST(RandomLayouts, EqualTheTruth) {
  int checked = 0;
  ForEachLayout(60, DType::kF64, [&](const Layout& layout, const Record& record) {
    ++checked;
    return CompareWithTruth(record, TruthOf(layout));
  });
  EXPECT_EQ(checked, 60);
}

TEST(RandomLayouts, InBF16AreAsGoodAsOneRank) {
  int checked = 0;
  ForEachLayout(30, DType::kBF16, [&](const Layout& layout, const Record& record) -> Status {
    ++checked;
    const Layout alone{.schedule = "gpipe",
                       .micro_batches = layout.global_batch(),
                       .blocks = layout.blocks,
                       .clip = layout.clip,
                       .tied = layout.tied,
                       .rotary = layout.rotary,
                       .llama = layout.llama,
                       .masked = layout.masked,
                       .precision = DType::kBF16,
                       .heads = layout.heads,
                       .kv_heads = layout.kv_heads,
                       .width = layout.width};
    LYCIA_ASSIGN_OR_RETURN(const Record serial, RunOnThreads(alone));
    // A Llama's gated MLP rounds once more; of these sizes one rank alone comes to 6 % of its layer.
    const Tolerance tolerance{.of_layer = layout.llama ? 0.08 : kBF16Tolerance.of_layer, .rounding = kBF16Tolerance.rounding};
    return CompareInLowPrecision(record, serial, TruthOf(layout), tolerance);
  });
  EXPECT_EQ(checked, 30);
}

}  // namespace
}  // namespace lycia::layouts
