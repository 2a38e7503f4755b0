// The real code's counters in a dry run against the closed forms of the planner, which are tested against published tables and by counting
// (parallel/plan): for 64, 512 and 4096 ranks, every grid that fits; and the sums of forward, backward and step, none left over.
#include "models/grid_dry_run.h"

#include "gtest/gtest.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/plan/grid_memory.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

struct DryCase {
  GptConfig model;
  std::int64_t samples, sequence;
  DType compute = DType::kF32;
};

plan::GridProblem ProblemOf(const DryCase& test, const GridPolicy& policy, bool split) {
  const GptConfig& model = test.model;
  return {.model = {.hidden = model.hidden,
                    .ffn = model.ffn,
                    .heads = model.heads,
                    .kv_heads = model.key_heads(),
                    .layers = model.layers,
                    .vocab = model.vocab,
                    .context = model.context,
                    .gated = model.gated(),
                    .bias = model.biases(),
                    .tied = model.tied},
          .batch = {.tokens = test.samples * test.sequence, .sequences = test.samples},
          .element_bytes = SizeOf(test.compute),
          .gather = {
              .cache_x = policy.cache_inputs, .cache_w = policy.cache_weights, .split_backward = split && !policy.cache_output_gradients}};
}

// Bytes along one axis and of the two-axis groups that weights and vectors use.
std::int64_t Bytes(const GridTraffic& traffic, GridGroup group, std::initializer_list<Tag> tags) {
  std::int64_t bytes = 0;
  for (const Tag tag : tags) bytes += traffic.sum(group, tag).bytes;
  return bytes;
}

std::int64_t Total(const GridTraffic& traffic) {
  std::int64_t bytes = 0;
  for (const Counters& counters : traffic.of) bytes += counters.total().bytes;
  return bytes;
}

void ExpectClosedForms(const DryCase& test, const plan::GridShape& shape, const GridPolicy& policy, bool split, int rank) {
  SCOPED_TRACE(StrCat("grid ", shape.ToString(), " rank ", rank, policy.cache_inputs ? " X" : "", policy.cache_weights ? " W" : "",
                      split ? " split" : ""));
  const StatusOr<GridStep> step = DryRunGridStep({.model = test.model,
                                                  .x = shape.x,
                                                  .y = shape.y,
                                                  .z = shape.z,
                                                  .rank = rank,
                                                  .samples = test.samples,
                                                  .sequence = test.sequence,
                                                  .policy = policy,
                                                  .split_backward = split,
                                                  .compute = test.compute});
  ASSERT_TRUE(step.ok()) << step.status();
  const plan::GridProblem problem = ProblemOf(test, policy, split);
  const plan::BlockTraffic formula = plan::BlockBytes(problem, shape);
  const std::int64_t L = test.model.layers, e = SizeOf(test.compute);
  // Statistics and vectors travel in the type of the run; the formulas are of 4 bytes.
  const auto in_type = [&](std::int64_t bytes) { return bytes / 4 * e; };
  for (const auto& [group, axis] : {std::pair{GridGroup::kX, Axis::kX}, {GridGroup::kY, Axis::kY}, {GridGroup::kZ, Axis::kZ}}) {
    SCOPED_TRACE(Name(group));
    EXPECT_EQ(Bytes(step->blocks, group, {Tag::kActivation}), L * formula.activations_forward.bytes(axis));
    EXPECT_EQ(Bytes(step->blocks_backward, group, {Tag::kActivation}), L * formula.activations_backward.bytes(axis));
    EXPECT_EQ(step->blocks.sum(group, Tag::kActivation).calls, L * formula.activations_forward.calls(axis));
    EXPECT_EQ(step->blocks_backward.sum(group, Tag::kActivation).calls, L * formula.activations_backward.calls(axis));
    EXPECT_EQ(Bytes(step->blocks, group, {Tag::kNorm}), in_type(L * formula.norm_forward.bytes(axis)));
    EXPECT_EQ(Bytes(step->blocks_backward, group, {Tag::kNorm}), in_type(L * formula.norm_backward.bytes(axis)));
  }
  // Shared key/value heads gather in the group (z, y), or where one of them is 1 still in that group.
  const auto weights = [&](const GridTraffic& traffic) {
    return Bytes(traffic, GridGroup::kZ, {Tag::kWeight, Tag::kGradient}) + Bytes(traffic, GridGroup::kZY, {Tag::kWeight, Tag::kGradient});
  };
  EXPECT_EQ(weights(step->blocks), L * formula.weights_forward.total());
  EXPECT_EQ(weights(step->blocks_backward), L * formula.weights_backward.total());
  EXPECT_EQ(Total(step->blocks) + Total(step->blocks_backward),
            L * (formula.matrices().total() + in_type(formula.norms().total())));  // nothing else

  // What a micro-batch keeps on a rank: the planner's figure, and beside it two numbers a row of each layer norm, or one of each RMS norm,
  // and one a row of each head.
  const plan::GridMemory memory = plan::BlockMemory(problem, shape);
  const std::int64_t kept = memory.activations + policy.cache_inputs * memory.gathered_x + policy.cache_weights * memory.gathered_w -
                            memory.counted_twice,
                     rows = test.samples * test.sequence / shape.z,
                     numbers = 2 * (test.model.rms_norm() ? 1 : 2) * rows / shape.y + rows * test.model.heads / (shape.x * shape.y);
  constexpr std::int64_t kTensors = 20, kAlignment = 64;
  EXPECT_NEAR(step->kept_bytes, L * (kept + e * numbers), L * kTensors * kAlignment);

  // Two products with two weights at most.
  EXPECT_NEAR(step->moving_bytes, memory.moving_w, 4 * kAlignment);

  const std::int64_t norm_f = in_type(formula.norms().total() / 2);
  EXPECT_EQ(Total(step->embedding) + Total(step->embedding_backward), plan::EmbeddingBytes(problem, shape).total());
  const std::int64_t loss = Bytes(step->head, GridGroup::kY, {Tag::kLoss});
  EXPECT_EQ(Total(step->head) + Total(step->head_backward) - loss, plan::HeadBytes(problem, shape).total() + norm_f);
  // Vectors out and back: L blocks, the last norm and the position table over (z, y).
  const std::int64_t P = shape.ranks(), h = test.model.hidden, of_ends = test.model.rms_norm() ? 1 : 2 + test.model.context;
  const std::int64_t vectors = 2 * in_type(L * plan::VectorBytes(problem, shape) + 4 * of_ends * h / P * (shape.y * shape.z - 1));
  if (plan::Padded(problem.model, shape).ffn % P == 0) {
    EXPECT_EQ(Total(step->vectors), vectors);
  } else {  // the formulas round uneven parts up
    EXPECT_LE(Total(step->vectors), vectors);
    EXPECT_GT(Total(step->vectors), vectors - 2 * 2 * e * P);
  }
  const std::int64_t zx = std::int64_t{shape.z} * shape.x, scalar = (8 * (zx - 1) + zx - 1) / zx;
  if (test.samples * test.sequence / zx % shape.y == 0) {
    EXPECT_EQ(loss, in_type(plan::CrossEntropyBytes(problem, shape) - scalar));
  }
}

// h = m = 8192, the table's problem with sequences of one micro-batch cut as z wants them.
TEST(GridDryRun, TableOf64Ranks) {
  const GptConfig model = {.layers = 2, .heads = 64, .hidden = 8192, .context = 128, .vocab = 51200, .ffn = 32768};
  const DryCase test = {model, 64, 128};
  for (const plan::GridShape& shape : plan::Factorisations(64)) {
    for (const GridPolicy& policy : {GridPolicy{.cache_inputs = true, .cache_weights = true}, GridPolicy{.cache_inputs = false}}) {
      ExpectClosedForms(test, shape, policy, false, 0);
    }
    ExpectClosedForms(test, shape, {.cache_weights = true, .cache_output_gradients = false}, true, 63);
  }
  // The published row of 2,8,4 in f32 is twice that of bf16: 50.3, 117.4 and 151.0 MB.
  const StatusOr<GridStep> step =
      DryRunGridStep({.model = model, .x = 2, .y = 8, .z = 4, .samples = 64, .sequence = 128, .policy = {.cache_weights = true}});
  ASSERT_TRUE(step.ok());
  const auto mb = [&](GridGroup group, std::initializer_list<Tag> tags) {
    return static_cast<double>(Bytes(step->blocks, group, tags) + Bytes(step->blocks_backward, group, tags)) / model.layers / 2 / 1e6;
  };
  EXPECT_NEAR(mb(GridGroup::kX, {Tag::kActivation}), 50.3, 0.05);
  EXPECT_NEAR(mb(GridGroup::kY, {Tag::kActivation}), 117.4, 0.05);
  EXPECT_NEAR(mb(GridGroup::kZ, {Tag::kWeight, Tag::kGradient}), 151.0, 0.05);
}

TEST(GridDryRun, EveryGridOf512And4096Ranks) {
  const GptConfig model = {.layers = 1, .heads = 4096, .hidden = 8192, .context = 64, .vocab = 8192, .ffn = 16384, .tied = false};
  const DryCase test = {model, 4096, 4096, DType::kF64};
  for (const int ranks : {512, 4096}) {
    for (const plan::GridShape& shape : plan::Factorisations(ranks)) {
      DryCase fitting = test;
      fitting.model.context = 4096;
      ExpectClosedForms(fitting, shape, {.cache_weights = true}, false, (ranks - 1) * (shape.x % 2));
    }
  }
}

// Grouped queries with as many heads as (y, x), more, and fewer: then key and value columns are shared along (z, y). Padded ffn and vocab.
TEST(GridDryRun, GroupedQueriesAndPadding) {
  const GptConfig model = {.layers = 1, .heads = 24, .kv_heads = 4, .hidden = 192, .context = 24, .vocab = 99, .ffn = 250};
  for (const plan::GridShape& shape : {plan::GridShape{2, 2, 2}, {1, 2, 1}, {2, 4, 3}, {3, 4, 2}, {1, 12, 2}, {4, 1, 3}, {1, 8, 1}}) {
    ExpectClosedForms({model, 6, 24}, shape, {.cache_weights = true}, false, shape.ranks() - 1);
    ExpectClosedForms({model, 6, 24}, shape, {.cache_inputs = false}, false, 0);
  }
}

TEST(GridDryRun, Llama) {
  for (const std::int64_t kv_heads : {4, 24}) {
    const GptConfig model = {.family = GptFamily::kLlama,
                             .layers = 2,
                             .heads = 24,
                             .kv_heads = kv_heads,
                             .hidden = 192,
                             .context = 24,
                             .vocab = 99,
                             .ffn = 250,
                             .tied = kv_heads == 4,
                             .position = PositionEncoding::kRotary};
    for (const plan::GridShape& shape : {plan::GridShape{2, 2, 2}, {1, 2, 1}, {2, 4, 3}, {3, 4, 2}, {1, 12, 2}, {4, 1, 3}, {1, 8, 1}}) {
      ExpectClosedForms({model, 6, 24}, shape, {.cache_weights = true}, false, shape.ranks() - 1);
      ExpectClosedForms({model, 6, 24}, shape, {.cache_inputs = false}, true, 0);
    }
  }
}

// The whole model as one stage: beside the blocks' products the table, tied or not, W kept or not.
TEST(GridDryRun, MemoryOfWeightsUnderWay) {
  for (const plan::GridShape& shape : {plan::GridShape{2, 2, 2}, {1, 4, 3}, {2, 1, 2}, {1, 1, 6}, {2, 2, 1}}) {
    for (const int variant : {0, 1, 2, 3, 4, 5, 6, 7}) {
      DryCase test = {{.layers = 1 + variant % 2, .heads = 24, .hidden = 192, .context = 24, .vocab = 99, .ffn = 250}, 6, 24};
      if (variant >= 4) test.model.vocab = 20000;
      test.model.tied = variant / 2 % 2 == 0;
      for (const bool cache_weights : {false, true}) {
        SCOPED_TRACE(StrCat(shape.ToString(), " variant ", variant, " cached ", cache_weights));
        const std::unique_ptr<Communicator> world = OpenDryRunWorld(0, shape.ranks());
        const Mesh mesh = Mesh::Create({.x = shape.x, .y = shape.y, .z = shape.z}, shape.ranks()).value();
        const std::unique_ptr<Grid> grid = Grid::Create(*world, mesh).value();
        const GridPolicy policy = {.cache_weights = cache_weights};
        const auto moving_bytes = [&](bool overlap, bool split) {
          GridGptOptions options = {
              .model = test.model, .grid = grid.get(), .samples = test.samples, .sequence = test.sequence, .policy = policy};
          options.policy.overlap = overlap;
          std::vector<std::unique_ptr<Layer>> layers;
          std::vector<std::unique_ptr<GridLayer>> grid_layers = GridGptLayers(options).value();
          for (std::unique_ptr<GridLayer>& layer : grid_layers) layers.push_back(std::move(layer));
          const TensorSpec tokens = {DType::kI32, {test.samples / shape.z, test.sequence}};
          return LayerStage::Create(std::move(layers), {tokens}, {.full_backward = !split, .split_backward = split})
              .value()
              ->transfer_bytes();
        };
        const plan::GridMemory memory = plan::ModelMemory(ProblemOf(test, policy, false), shape);
        const std::int64_t moving = moving_bytes(true, false), serial = moving_bytes(false, false);
        EXPECT_NEAR(moving, memory.moving_w, 4 * 64);
        EXPECT_EQ(moving_bytes(true, true), moving);
        EXPECT_LE(serial, moving);
        EXPECT_GE(2 * serial, moving);
      }
    }
  }
}

TEST(GridDryRun, RefusesWhatDoesNotFit) {
  const GptConfig model = {.layers = 1, .heads = 4, .hidden = 64, .context = 8, .ffn = 256};
  const StatusOr<GridStep> step = DryRunGridStep({.model = model, .y = 3, .samples = 3, .sequence = 8});
  EXPECT_EQ(step.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lycia
