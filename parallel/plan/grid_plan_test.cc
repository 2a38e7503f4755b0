// The planner: which grids there are, which fit and what is said of the others, memory and time by hand, and the winner.
#include "parallel/plan/grid_plan.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/plan/grid_report.h"

namespace lycia::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Transformer Small() {
  return {.name = "small", .hidden = 48, .ffn = 192, .heads = 12, .kv_heads = 12, .layers = 2, .vocab = 50, .context = 12};
}

TEST(GridShape, FactorisationsAreAllTriplesOnce) {
  for (const int ranks : {1, 7, 12, 64}) {
    std::set<std::string> expected, found;
    for (int x = 1; x <= ranks; ++x) {
      for (int y = 1; y <= ranks; ++y) {
        for (int z = 1; z <= ranks; ++z) {
          if (x * y * z == ranks) expected.insert(GridShape{x, y, z}.ToString());
        }
      }
    }
    const std::vector<GridShape> grids = Factorisations(ranks);
    for (const GridShape& grid : grids) found.insert(grid.ToString());
    EXPECT_EQ(found, expected);
    EXPECT_EQ(grids.size(), expected.size());
  }
}

// The rules themselves are parallel/grid's.
TEST(GridShape, RefusalsNameTheNumbersAndTheNearestSizes) {
  const Transformer model = Small();
  EXPECT_THAT(Refusals({2, 2, 2}, model, {.tokens = 72, .sequences = 6}), IsEmpty());
  EXPECT_THAT(Refusals({1, 1, 4}, model, {.tokens = 72, .sequences = 6}),
              ElementsAre("z = 4 does not divide the 6 samples of a micro-batch; use 4 or 8 samples, or z = 3"));
  EXPECT_THAT(Refusals({1, 1, 4}, model, {.tokens = 72}), IsEmpty());  // some number of sequences that 4 divides
  EXPECT_THAT(Refusals({1, 1, 16}, model, {.tokens = 72}),
              ElementsAre("z = 16 does not divide the 72 tokens of a micro-batch; use 64 or 80"));
  EXPECT_THAT(
      Refusals({1, 4, 2}, model, {.tokens = 36, .sequences = 2}),
      ElementsAre("y = 4 does not divide the 18 tokens (1 samples of 18) that one z holds; use 16 or 20 tokens a sample, or y = 3"));
  EXPECT_THAT(
      Refusals({4, 1, 2}, model, {.tokens = 36}),
      ElementsAre("x = 4 does not divide the 18 tokens (1 samples of 18) that one z holds; use 16 or 20 tokens a sample, or x = 3"));
  EXPECT_THAT(Refusals({5, 1, 16}, model, {.tokens = 75}),
              ElementsAre("z = 16 does not divide the 75 tokens of a micro-batch; use 64 or 80",
                          HasSubstr("x = 5 does not divide hidden 48"), HasSubstr("x y = 5 does not divide the 12 heads")));
  Transformer grouped = Small();
  grouped.kv_heads = 6;
  EXPECT_THAT(Refusals({2, 2, 1}, grouped, {.tokens = 72}), ElementsAre(HasSubstr("6 key/value heads neither divide into x y = 4")));
  EXPECT_THAT(Refusals({2, 6, 1}, grouped, {.tokens = 72}), IsEmpty());  // each key/value head twice
  grouped.ffn = 193;                                                     // padded
  grouped.vocab = 53;
  EXPECT_THAT(Refusals({1, 6, 1}, grouped, {.tokens = 72}), IsEmpty());
  EXPECT_EQ(Padded(grouped, {1, 6, 1}).ffn, 198);
  EXPECT_EQ(Padded(grouped, {1, 6, 1}).vocab, 54);
}

TEST(Transformer, PresetsAreValidAndHaveTheParametersOfTheirNames) {
  for (const Transformer& preset : Presets()) EXPECT_TRUE(Validate(preset).ok()) << preset.name;
  const auto billions = [](std::string_view name) {
    const Transformer& model = *FindPreset(name);
    double block = 0;
    for (const BlockLinear& linear : BlockLinears(model, {})) block += static_cast<double>(linear.k) * static_cast<double>(linear.n);
    const double table = static_cast<double>(model.vocab) * static_cast<double>(model.hidden);
    return (static_cast<double>(model.layers) * block + (model.tied ? 1 : 2) * table) / 1e9;
  };
  EXPECT_NEAR(billions("gpt2-124m"), 0.124, 0.001);
  EXPECT_NEAR(billions("gpt2-355m"), 0.355, 0.003);
  EXPECT_NEAR(billions("gpt2-774m"), 0.774, 0.003);
  EXPECT_NEAR(billions("gpt2-1.5b"), 1.557, 0.004);
  EXPECT_NEAR(billions("gpt3-6.7b"), 6.65, 0.05);
  EXPECT_NEAR(billions("gpt3-13b"), 12.85, 0.1);
  EXPECT_NEAR(billions("gpt3-175b"), 174.6, 0.5);
  EXPECT_NEAR(billions("llama-7b"), 6.738, 0.001);
  EXPECT_NEAR(billions("llama-65b"), 65.28, 0.01);
  EXPECT_NEAR(billions("llama2-70b"), 68.975, 0.01);
  EXPECT_NEAR(billions("llama3-8b"), 8.03, 0.001);
  EXPECT_NEAR(billions("llama3-405b"), 405.8, 0.1);
  EXPECT_EQ(FindPreset("gpt2"), nullptr);
}

TEST(Transformer, OtherSizesKeepTheProportions) {
  const StatusOr<Transformer> wide = WithSizes(*FindPreset("gpt3-175b"), {.hidden = 8192});
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_EQ(wide->ffn, 32768);
  EXPECT_EQ(wide->heads, 64);
  EXPECT_EQ(wide->kv_heads, 64);
  EXPECT_EQ(wide->layers, 96);
  const StatusOr<Transformer> grouped = WithSizes(*FindPreset("llama2-70b"), {.hidden = 4096, .layers = 3, .vocab = 77});
  ASSERT_TRUE(grouped.ok()) << grouped.status();
  EXPECT_EQ(grouped->heads, 32);
  EXPECT_EQ(grouped->kv_heads, 8);
  EXPECT_EQ(grouped->ffn, 14336);
  EXPECT_EQ(grouped->layers, 3);
  EXPECT_EQ(grouped->vocab, 77);
  const auto mistake = [](const SizeOverrides& sizes) { return std::string(WithSizes(Small(), sizes).status().message()); };
  EXPECT_EQ(mistake({.hidden = 50}), "hidden=50 is not a multiple of small's head size 4; use 48 or 52, or give heads too");
  EXPECT_EQ(mistake({.heads = 7}), "hidden=48 is not a multiple of heads=7; use hidden=42 or 49 or another number of heads");
  EXPECT_THAT(mistake({.kv_heads = 5}), HasSubstr("kv-heads=5 does not divide heads=12"));
}

// Counted by hand for 2,2,2: m = 72, h = 48, f = 192, P = 8, two bytes.
TEST(GridMemory, ByHand) {
  const GridProblem problem = {.model = Small(), .batch = {.tokens = 72, .sequences = 6}};
  const GridMemory memory = BlockMemory(problem, {2, 2, 2});
  const std::int64_t matrices = 12 * 48 * 48 / 8, vectors = 13 * 48 / 8;
  EXPECT_EQ(memory.parameters, 2 * matrices + 4 * vectors);
  EXPECT_EQ(memory.gradients, 4 * matrices + 4 * vectors);
  EXPECT_EQ(memory.optimizer, 12 * matrices + 8 * vectors);  // two moments and the f32 weights; vectors are f32 already
  EXPECT_EQ(memory.activations, 2 * 16 * 72 * 48 / 8);
  EXPECT_EQ(memory.gathered_x, 2 * (72 / 2 * (24 + 24 + 24 + 96)));
  EXPECT_EQ(memory.gathered_w, 2 * (24 * 72 + 24 * 24 + 24 * 96 + 96 * 24));
  EXPECT_EQ(memory.moving_w, 2 * (24 * 96 + 96 * 24));  // both feed-forward products
  EXPECT_EQ(memory.partial_x, 2 * (72 / 2 * 96));
  EXPECT_EQ(memory.partial_y, 2 * (72 / 2 * 96));
  EXPECT_EQ(memory.vectors, 4 * (144 / 4 + 192 / 2 + 6 * 48 / 2));
  EXPECT_EQ(memory.total(), memory.parameters + memory.gradients + memory.optimizer + memory.activations + memory.gathered_x +
                                memory.gathered_w + memory.moving_w + memory.partial_x + memory.partial_y + memory.vectors -
                                memory.counted_twice);
  EXPECT_EQ(memory.counted_twice, 2 * 72 * (48 + 48 + 48 + 192) / 8);
  GridProblem again = problem;
  again.gather = {.cache_x = false, .cache_w = false};
  EXPECT_EQ(BlockMemory(again, {2, 2, 2}).gathered_x, 2 * (72 / 2 * 96));
  EXPECT_EQ(BlockMemory(again, {2, 2, 2}).gathered_w, 0);
  EXPECT_EQ(BlockMemory(again, {2, 2, 2}).moving_w, memory.moving_w);
  // Nothing is gathered along an axis of size 1: then a kept X is this rank's part, a kept W the parameter.
  const GridMemory flat = BlockMemory(problem, {1, 1, 1});
  EXPECT_EQ(flat.gathered_x + flat.gathered_w, flat.counted_twice);
  EXPECT_EQ(flat.moving_w + flat.partial_x + flat.partial_y, 0);
  EXPECT_EQ(BlockMemory(again, {1, 1, 1}).gathered_x + BlockMemory(again, {1, 1, 1}).gathered_w, 0);
  GridProblem wide = problem;
  wide.element_bytes = 8;
  EXPECT_EQ(BlockMemory(wide, {2, 2, 2}).optimizer, 16 * matrices + 8 * vectors);
  // The model: two blocks, the tied table of 50 rows, the head's input and norm, the logits.
  const GridMemory model = ModelMemory(problem, {2, 2, 2});
  EXPECT_EQ(model.parameters, 2 * memory.parameters + 2 * 50 * 48 / 8);
  EXPECT_EQ(model.activations, 2 * memory.activations + 2 * 72 * (2 * 48 + 50) / 8);
  EXPECT_EQ(model.gathered_w, 2 * memory.gathered_w + 2 * 25 * 24);
  EXPECT_EQ(model.moving_w, memory.moving_w);
  EXPECT_EQ(model.partial_y, memory.partial_y);
  // A table larger than the products is next to the last FC2, or alone where W is kept and the tied head hands its gradient over.
  again.model.vocab = 2000;
  EXPECT_EQ(ModelMemory(again, {2, 2, 2}).moving_w, 2 * (1000 * 24 + 96 * 24));
  again.gather.cache_w = true;
  EXPECT_EQ(ModelMemory(again, {2, 2, 2}).moving_w, 2 * (1000 * 24));
  again.model.tied = false;
  EXPECT_EQ(ModelMemory(again, {2, 2, 2}).moving_w, 2 * (1000 * 24 + 96 * 24));
  EXPECT_EQ(ModelMemory(again, {2, 2, 1}).moving_w, 0);
}

// 4,2,2 on nodes of 4 in the order z,y,x: x fills a node, all four ranks have their next along y and along z elsewhere.
TEST(GridTime, ByHand) {
  const GridShape grid = {4, 2, 2};
  const GridProblem problem = {.model = Small(), .batch = {.tokens = 96, .sequences = 8}};
  const std::vector<NodeEdges> edges = EdgesLeaving(grid, {Axis::kZ, Axis::kY, Axis::kX}, 4);
  ASSERT_EQ(edges.size(), 4u);
  for (const NodeEdges& node : edges) EXPECT_EQ((std::array{node.x, node.y, node.z}), (std::array<std::int64_t, 3>{0, 4, 4}));
  const DeviceModel device = {.flops = 1e9, .intra_bandwidth = 1e8, .inter_bandwidth = 1e7, .intra_latency = 1e-6, .inter_latency = 1e-3};
  const GridTime time = BlockTime(problem, grid, BlockBytes(problem, grid), edges, 4, device);
  const double m = 96, h = 48, s = 12;
  EXPECT_DOUBLE_EQ(time.compute, 6 * (12 * m * h * h + m * s * h) / 16 / 1e9);
  // Matrices and the statistics of two norms, twice; 8 + 4 calls of three steps inside the node.
  EXPECT_DOUBLE_EQ(time.x, 12 * 3 * 1e-6 + (2 * 2 * 12 * m * h * 3 / 16 + 2 * 2 * 2 * 4 * m / 4 * 3) / 1e8);
  // 8 calls of one step; the node's 4e7 bytes/s are shared by 4 rings.
  EXPECT_DOUBLE_EQ(time.y, 8 * 1 * 1e-3 + 2 * 2 * 4 * m * h / 16 / 1e7);
  EXPECT_DOUBLE_EQ(time.z, 8 * 1 * 1e-3 + 2 * 2 * 12 * h * h / 16 / 1e7);
  EXPECT_DOUBLE_EQ(time.total(), time.x + time.y + std::max(time.compute, time.z));
}

// Nodes that do not divide the ranks: 6 ranks on nodes of 4, one ring. The first node has one edge out (3 -> 4), the second one (5 -> 0).
TEST(NodeTraffic, UnevenNodesAndOneNode) {
  const AxisOrder order = {Axis::kZ, Axis::kX, Axis::kY};
  const std::vector<NodeEdges> uneven = EdgesLeaving({1, 6, 1}, order, 4);
  ASSERT_EQ(uneven.size(), 2u);
  EXPECT_EQ(uneven[0].y, 1);
  EXPECT_EQ(uneven[1].y, 1);
  EXPECT_EQ(BytesLeavingNode(uneven, {.x = 1, .y = 10, .z = 100}), 10);
  EXPECT_EQ(BytesLeavingNode(EdgesLeaving({2, 3, 1}, order, 8), {.x = 1, .y = 1, .z = 1}), 0);
  // 3 rings of 2 along x: ranks 0..2 have x = 0. On nodes of 4, node 0 is (0,0) (0,1) (0,2) (1,0): only (0,0) has its next at home.
  const std::vector<NodeEdges> cut = EdgesLeaving({2, 3, 1}, order, 4);
  EXPECT_EQ(cut[0].x, 2);
  EXPECT_EQ(cut[0].y, 1);
  EXPECT_EQ(cut[1].x, 2);
  EXPECT_EQ(cut[1].y, 1);
  EXPECT_FALSE(ParseAxisOrder("x,y").ok());
  EXPECT_EQ(ToString(*ParseAxisOrder("y,x,z")), "y,x,z");
}

PlanGridsArgs Args() { return {.problem = {.model = Small(), .batch = {.tokens = 96, .sequences = 8}}, .ranks = 16, .ranks_per_node = 4}; }

TEST(PlanGrids, ListsEveryGridTheFittingOnesByTime) {
  const std::vector<GridPlan> plans = PlanGrids(Args());
  EXPECT_EQ(plans.size(), Factorisations(16).size());
  bool refused = false;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    EXPECT_EQ(plans[i].refusals, Refusals(plans[i].grid, Small(), Args().problem.batch));
    refused = refused || !plans[i].fits();
    EXPECT_EQ(plans[i].fits(), !refused) << "refused grids come last";
    if (i > 0 && plans[i].fits()) {
      EXPECT_GE(plans[i].time.total(), plans[i - 1].time.total());
    }
    const BlockTraffic traffic = plans[i].traffic;
    EXPECT_EQ(plans[i].model_bytes,
              2 * (traffic.matrices().total() + traffic.norms().total()) + EmbeddingBytes(Args().problem, plans[i].grid).total() +
                  HeadBytes(Args().problem, plans[i].grid).total() + CrossEntropyBytes(Args().problem, plans[i].grid));
  }
  EXPECT_TRUE(refused);
}

// Where the real code is run, its counters are the figures and its refusals count.
TEST(PlanGrids, TakesWhatWasCounted) {
  PlanGridsArgs args = Args();
  args.count = [](const GridShape& grid) -> StatusOr<BlockTraffic> {
    if (grid.y == 4) return InvalidArgument("no");
    return BlockTraffic{.activations_forward = {.x = 1000 * grid.z}, .norm_forward = {.x = 7}};
  };
  int refused = 0;
  for (const GridPlan& plan : PlanGrids(args)) {
    if (plan.refusals == std::vector<std::string>{"no"}) ++refused;
    if (!plan.fits()) continue;
    EXPECT_TRUE(plan.counted);
    EXPECT_EQ(plan.traffic.matrices().x, 1000 * plan.grid.z);
    EXPECT_EQ(plan.time.x, BlockTime(args.problem, plan.grid, plan.traffic, EdgesLeaving(plan.grid, plan.order_of_least_time, 4), 4, {}).x);
  }
  EXPECT_EQ(refused, 1);  // 1,4,4; 4,4,1 and 2,4,2 do not fit anyway
}

// A network so slow that only it counts, and no latency: the winner is the grid that loses least at the network.
TEST(PlanGrids, TheWinnerFollowsTheDevice) {
  PlanGridsArgs args = Args();
  args.device = {.flops = 1e30, .intra_bandwidth = 1e30, .inter_bandwidth = 1, .intra_latency = 1e-30, .inter_latency = 1e-30};
  const std::vector<GridPlan> plans = PlanGrids(args);
  for (const GridPlan& plan : plans) {
    if (plan.fits()) {
      EXPECT_LE(plans[0].time.total(), plan.time.total());
    }
  }
  // With one node, one kind of wire and no compute the least bytes win: 1 layer, m = 96, h = 48 by hand over the fitting grids.
  args.ranks_per_node = 16;
  args.device.intra_bandwidth = 1;
  const std::vector<GridPlan> flat = PlanGrids(args);
  for (const GridPlan& plan : flat) {
    if (plan.fits()) {
      EXPECT_LE(flat[0].traffic.matrices().total() + flat[0].traffic.norms().total(),
                plan.traffic.matrices().total() + plan.traffic.norms().total());
    }
  }
  args.order = AxisOrder{Axis::kX, Axis::kY, Axis::kZ};
  for (const GridPlan& plan : PlanGrids(args)) {
    EXPECT_EQ(ToString(plan.order_of_fewest_bytes), "x,y,z");
    EXPECT_EQ(ToString(plan.order_of_least_time), "x,y,z");
  }
}

TEST(GridReport, TextSaysWhatWinsAndWhatIsRefused) {
  const PlanGridsArgs args = Args();
  const std::vector<GridPlan> plans = PlanGrids(args);
  const std::string text = GridsText(args, plans);
  EXPECT_THAT(text, HasSubstr(StrCat("Winner: ", plans[0].grid.ToString(), " ")));
  EXPECT_THAT(text, HasSubstr("16,1,1: x y = 16 does not divide the 12 heads, which are split by (y, x); use 16 heads, or x y = 12\n"));
  PlanGridsArgs none = args;
  none.problem.batch = {.tokens = 5, .sequences = 5};
  none.ranks = 7;
  EXPECT_THAT(GridsText(none, PlanGrids(none)), HasSubstr("No grid fits"));
}

}  // namespace
}  // namespace lycia::plan
