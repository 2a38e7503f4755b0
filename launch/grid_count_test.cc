// The planner's figures as the command prints them: what the real code counts is what the closed forms say, in every element type.
#include "launch/grid_count.h"

#include "gtest/gtest.h"

namespace lycia {
namespace {

void ExpectCounted(plan::GridProblem problem, int ranks) {
  for (const plan::GridShape& grid : plan::Factorisations(ranks)) {
    SCOPED_TRACE(StrCat(grid.ToString(), " in ", problem.element_bytes, " bytes"));
    const StatusOr<plan::BlockTraffic> counted = CountBlock(problem, grid);
    ASSERT_EQ(counted.ok(), plan::Refusals(grid, problem.model, problem.batch).empty()) << counted.status();
    if (!counted.ok()) continue;
    const plan::BlockTraffic formula = plan::BlockBytes(problem, grid);
    EXPECT_EQ(counted->activations_forward, formula.activations_forward);
    EXPECT_EQ(counted->activations_backward, formula.activations_backward);
    EXPECT_EQ(counted->weights_forward, formula.weights_forward);
    EXPECT_EQ(counted->weights_backward, formula.weights_backward);
    EXPECT_EQ(counted->norm_forward.x, formula.norm_forward.x * (problem.element_bytes == 8 ? 2 : 1));
    EXPECT_EQ(counted->norm_backward.calls_x, formula.norm_backward.calls_x);
  }
}

// Twelve and 64 ranks: many grids fit, many do not, and both sides agree on which.
TEST(GridCount, IsTheClosedFormsAndRefusesTheSameGrids) {
  const plan::Transformer model = {.hidden = 96, .ffn = 144, .heads = 24, .kv_heads = 24, .layers = 2, .vocab = 96, .context = 24};
  for (const std::int64_t element_bytes : {2, 4, 8}) {
    ExpectCounted({.model = model, .batch = {.tokens = 24 * 24, .sequences = 24}, .element_bytes = element_bytes}, 12);
  }
  ExpectCounted({.model = model, .batch = {.tokens = 6 * 20, .sequences = 6}}, 12);
  ExpectCounted({.model = model, .batch = {.tokens = 32 * 24}, .gather = {.cache_x = false, .split_backward = true}}, 64);
  plan::Transformer grouped = model;
  grouped.kv_heads = 4;
  ExpectCounted({.model = grouped, .batch = {.tokens = 24 * 24, .sequences = 24}, .gather = {.cache_w = false}}, 12);
  plan::Transformer llama = grouped;
  llama.gated = true;
  EXPECT_FALSE(CanCount({.model = llama})) << "gated, with biases";
  llama.bias = false;
  ASSERT_TRUE(CanCount({.model = *plan::FindPreset("llama-7b")}));
  ExpectCounted({.model = llama, .batch = {.tokens = 24 * 24, .sequences = 24}}, 12);
}

}  // namespace
}  // namespace lycia
