// Seven mistakes that implementations of tensor parallelism have made, made on purpose around the real code: each must fail a check. And a
// collective out of order, which must be reported with both sides' places instead of hanging.
#include <algorithm>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/grid/linear.h"
#include "runtime/comm/order_check.h"
#include "runtime/comm/transports.h"
#include "tests/grid/grid_bytes_for_test.h"
#include "tests/grid/grid_rank_for_test.h"
#include "tests/grid/passing_for_test.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

GridCase Case() {
  GridCase c{.x = 2, .y = 2, .z = 2, .micro_batches = 1};
  c.options.model = {.layers = 1, .heads = 8, .hidden = 24, .context = 10, .vocab = 22, .ffn = 80, .dropout = 0.2, .init_std = 0.3};
  c.options.samples = 4;
  c.options.sequence = 8;
  return c;
}

// Takes this rank's own summand for the sum of the vectors' gradients.
class ForgetsVectorSum final : public PassingCommunicator {
 public:
  using PassingCommunicator::PassingCommunicator;
  Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) override {
    if (args.tag != Tag::kVector) return inner_->ReduceScatter(args, after);
    const std::int64_t begin = args.offsets[static_cast<std::size_t>(rank())];
    std::memmove(args.out.data, args.in.as<double>() + begin, static_cast<std::size_t>(args.out.bytes()));
    return {};
  }
};

// Sums the exponentials, but not the labels' logits, which follow them in the same message.
class ForgetsTargetSum final : public PassingCommunicator {
 public:
  using PassingCommunicator::PassingCommunicator;
  Event AllReduce(const AllReduceArgs& args, const Event& after) override {
    if (args.tag != Tag::kLoss || args.fold != Fold::kSum) return inner_->AllReduce(args, after);
    double* targets = args.out.as<double>() + args.out.elements() / 2;
    const std::vector<double> own(targets, targets + args.out.elements() / 2);
    LYCIA_CHECK_OK(inner_->AllReduce(args, after).Wait());
    std::copy(own.begin(), own.end(), targets);
    return {};
  }
};

template <typename Fault>
Grid::Wrap On(GridGroup at) {
  return [at](GridGroup group, std::unique_ptr<Communicator> made) -> std::unique_ptr<Communicator> {
    if (group != at) return made;
    return std::make_unique<Fault>(std::move(made));
  };
}

// The head's summand of the tied gradient is lost before the embedding takes it up.
class ForgetsTiedGradient final : public Layer {
 public:
  explicit ForgetsTiedGradient(std::unique_ptr<Layer> inner) : inner_(std::move(inner)) {}
  const std::string& name() const override { return inner_->name(); }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    StatusOr<std::vector<TensorSpec>> out = inner_->Plan(in, plan);
    specs_ = plan.parameters();
    return out;
  }
  void Forward(const LayerContext& context) const override { inner_->Forward(context); }
  void BackwardInput(const LayerContext& context) const override { inner_->BackwardInput(context); }
  void BackwardWeight(const LayerContext& context) const override {
    inner_->BackwardWeight(context);
    Forget(context);
  }
  void Backward(const LayerContext& context) const override {
    inner_->Backward(context);
    Forget(context);
  }
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override {
    inner_->Fetch(context, transfer, place);
  }

 private:
  void Forget(const LayerContext& context) const {
    if (name() != "head") return;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].name.ends_with("head_gradient")) context.stream().Zero(context.gradients[i].data, context.gradients[i].bytes());
    }
  }

  std::unique_ptr<Layer> inner_;
  std::vector<ParameterSpec> specs_;
};

// The status of the comparison with the truth under a fault.
Status Compare(const GridFaults& faults, const std::function<Status(const GridRank&)>& check = {}) {
  GridResult result;
  const Status run = RunGrid(Case(), result, faults, check);
  if (!run.ok()) return run;
  return CompareWithTruth(Case(), result, 1e-10);
}

TEST(GridFaults, WithoutAFaultAllIsRight) {
  const Status status = Compare({}, [](const GridRank& rank) { return CompareBytes(rank.grid(), Case(), 8, 1); });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(GridFaults, DropoutByLocalIndex) { EXPECT_THAT(std::string(Compare({.local_samples = true}).message()), HasSubstr("logits")); }

TEST(GridFaults, MissingTiedGradient) {
  const GridFaults faults{
      .wrap_layer = [](std::unique_ptr<Layer> layer) { return std::make_unique<ForgetsTiedGradient>(std::move(layer)); }};
  EXPECT_THAT(std::string(Compare(faults).message()), HasSubstr("gradient of wte.weight"));
}

TEST(GridFaults, MissingTargetReduction) {
  EXPECT_THAT(std::string(Compare({.wrap = On<ForgetsTargetSum>(GridGroup::kY)}).message()), HasSubstr("loss"));
}

TEST(GridFaults, BiasGradientNotSummedOverZ) {
  EXPECT_THAT(std::string(Compare({.wrap = On<ForgetsVectorSum>(GridGroup::kZ)}).message()), HasSubstr("gradient of h.0.attn.c_attn.bias"));
}

TEST(GridFaults, NormGradientNotSummedOverZ) {
  const GridFaults faults{.wrap = On<ForgetsVectorSum>(GridGroup::kZY)};
  EXPECT_THAT(std::string(Compare(faults).message()), HasSubstr("gradient of h.0.attn.c_proj.bias"));
  const Status counted = Compare(faults, [](const GridRank& rank) { return CompareBytes(rank.grid(), Case(), 8, 1); });
  EXPECT_THAT(std::string(counted.message()), HasSubstr("zy vector reduce-scatter has 0 calls"));
}

// A product on a 2 x 2 x 2 grid, of the residual unless said otherwise; planned only.
StatusOr<Sharding> PlanProduct(const GridRoles& roles, const Sharding& in, Spread out_parts) {
  const Mesh mesh = Mesh::Create({.x = 2, .y = 2, .z = 2}, 8).value();
  const std::unique_ptr<Communicator> world = OpenDryRunWorld(0, 8);
  const std::unique_ptr<Grid> grid = Grid::Create(*world, mesh).value();
  LayerPlan plan(DType::kF64);
  GridScratch scratch;
  GridParameter weight{.name = "w", .tensor = "w", .tensor_shape = {24, 80}};
  weight.block = {.tensor_columns = 80, .rows = {{0, 12}}, .columns = {{0, 40}}};
  weight.held = Sharding().With(Axis::kX, Spread::kRows).With(Axis::kY, Spread::kColumns).With(Axis::kZ, Spread::kFlat);
  const ParameterHandle handle = plan.Parameter(weight.LayerSpec(*grid));
  StatusOr<GridLinear> product = GridLinear::Create({.grid = grid.get(),
                                                     .roles = roles,
                                                     .in = in,
                                                     .out_parts = out_parts,
                                                     .rows = 16,
                                                     .in_width = 12,
                                                     .out_width = 40,
                                                     .weights = {{weight, handle, handle}}},
                                                    plan, &scratch);
  if (!product.ok()) return product.status();
  return product->out();
}

constexpr GridRoles kRoles{.rows = Axis::kZ, .contraction = Axis::kX, .columns = Axis::kY};

TEST(GridFaults, SwappedRoles) {
  EXPECT_EQ(*PlanProduct(kRoles, kResidualSharding, Spread::kRows),
            (Sharding{.x = Spread::kRows, .y = Spread::kColumns, .z = Spread::kRows}));
  const GridRoles swapped{.rows = Axis::kZ, .contraction = Axis::kY, .columns = Axis::kX};
  EXPECT_THAT(std::string(PlanProduct(swapped, kResidualSharding, Spread::kRows).status().message()), HasSubstr("sharding: X is"));
  // Where X's parts happen to be cut alike along both axes, the product itself is refused.
  const Sharding all_rows{.x = Spread::kRows, .y = Spread::kRows, .z = Spread::kRows};
  EXPECT_THAT(std::string(PlanProduct(swapped, all_rows, Spread::kRows).status().message()),
              HasSubstr("copy times rows along x is nothing"));
}

TEST(GridFaults, WrongScatterDimension) {
  // The MLP's first product scattered by columns: its second, which gathers tokens along x, refuses it.
  const Sharding wrong = *PlanProduct(kRoles, kResidualSharding, Spread::kColumns);
  const GridRoles second{.rows = Axis::kZ, .contraction = Axis::kY, .columns = Axis::kX};
  EXPECT_THAT(std::string(PlanProduct(second, wrong, Spread::kRows).status().message()), HasSubstr("takes it cut by rows along x"));
}

TEST(GridFaults, TheOptimizerRefusesPartialGradients) {
  GridResult result;
  const Status run = RunGrid(Case(), result, {}, [](const GridRank& rank) -> Status {
    int vectors = 0;
    for (const GridParameter& parameter : rank.parameters()) {
      LYCIA_RETURN_IF_ERROR(MayUpdate(parameter.held, parameter.name));
      const Status status = MayUpdate(parameter.gradient, parameter.name);
      if (status.ok() == (parameter.exchange != Exchange::kEachUse)) return absl::InternalError("wrong answer for " + parameter.name);
      vectors += parameter.exchange == Exchange::kFused;
    }
    return vectors == 11 ? OkStatus() : absl::InternalError(StrCat(vectors, " vectors"));
  });
  EXPECT_TRUE(run.ok()) << run;
}

// All ranks of a group log the same collectives in the same order.
TEST(GridOrder, LogsAreIdenticalAcrossEachGroup) {
  const GridCase c = Case();
  std::vector<OrderLog> logs(8);
  GridResult result;
  const truth::TokenBatch batch = RandomBatch(c);
  const Status run = RunThreadRanks(8, [&](Communicator& world) -> Status {
    OrderLog* log = &logs[static_cast<std::size_t>(world.rank())];
    const GridFaults checked{.wrap = [&](GridGroup group, std::unique_ptr<Communicator> made) {
      return CheckOrder(std::move(made), std::string(Name(group)), log);
    }};
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<GridRank> rank, GridRank::Create(world, c, checked));
    return rank->Step(batch, result);
  });
  ASSERT_TRUE(run.ok()) << run;
  EXPECT_TRUE(CompareWithTruth(c, result, 1e-10).ok());
  EXPECT_GT(logs[0].entries.size(), 40u);
  for (const OrderLog& log : logs) {
    ASSERT_EQ(log.entries.size(), logs[0].entries.size());
    for (std::size_t i = 0; i < log.entries.size(); ++i) EXPECT_EQ(log.entries[i], logs[0].entries[i]) << log.entries[i].ToString();
  }
}

// Rank 3 does its operation on z before that on y, all others the other way round.
Status OutOfOrder(bool within_one_group) {
  std::vector<OrderLog> logs(8);
  return RunThreadRanks(8, [&](Communicator& world) -> Status {
    OrderLog* log = &logs[static_cast<std::size_t>(world.rank())];
    LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = 2, .y = 2, .z = 2}, 8));
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Grid> grid,
                           Grid::Create(world, mesh, [&](GridGroup group, std::unique_ptr<Communicator> made) {
                             return CheckOrder(std::move(made), std::string(Name(group)), log);
                           }));
    std::vector<double> part(3), whole(6);
    const Tensor small{part.data(), DType::kF64, {3}}, large{whole.data(), DType::kF64, {6}};
    const auto gather = [&] { return grid->along(Axis::kY)->AllGather({.in = small, .out = large, .tag = Tag::kWeight}, {}).Wait(); };
    const auto reduce = [&] {
      return grid->along(within_one_group ? Axis::kY : Axis::kZ)
          ->ReduceScatter({.in = large, .out = small, .tag = Tag::kGradient}, {})
          .Wait();
    };
    for (int i = 0; i < 3; ++i) {
      if (world.rank() == 3 && i == 2) {
        LYCIA_RETURN_IF_ERROR(reduce());
        LYCIA_RETURN_IF_ERROR(gather());
      } else {
        LYCIA_RETURN_IF_ERROR(gather());
        LYCIA_RETURN_IF_ERROR(reduce());
      }
    }
    return OkStatus();
  });
}

TEST(GridOrder, AReorderedCollectiveIsReportedWithBothPlaces) {
  const std::string one = std::string(OutOfOrder(/*within_one_group=*/true).message());
  EXPECT_THAT(one, HasSubstr("collectives along y are called in different orders"));
  EXPECT_THAT(one, HasSubstr("collective 4 there (4 of all): all-gather weight f64[6]"));
  EXPECT_THAT(one, HasSubstr("collective 4 there (4 of all): reduce-scatter gradient f64[6]"));
  // On z both sides are at their third; rank 3 has come there too early.
  const std::string two = std::string(OutOfOrder(/*within_one_group=*/false).message());
  EXPECT_THAT(two, HasSubstr("collectives along z are called in different orders"));
  EXPECT_THAT(two, HasSubstr("collective 2 there (4 of all): reduce-scatter gradient f64[6]"));
  EXPECT_THAT(two, HasSubstr("collective 2 there (5 of all): reduce-scatter gradient f64[6]"));
}

// A rank that never comes is reported, too.
TEST(GridOrder, AMissingRankIsReportedAfterTheDeadline) {
  OrderLog logs[2];
  const Status status = RunThreadRanks(2, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> both, world.Split(std::vector<int>{0, 0}));
    const std::unique_ptr<Communicator> checked = CheckOrder(std::move(both), "y", &logs[world.rank()], 50'000'000);
    if (world.rank() == 1) return world.Barrier();  // instead of the sum
    std::vector<double> value(1);
    const Tensor tensor{value.data(), DType::kF64, {1}};
    return checked->AllReduce({.in = tensor, .out = tensor, .tag = Tag::kLoss}, {}).Wait();
  });
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 is at its collective 0 there (0 of all): all-reduce loss f64[1]"));
}

}  // namespace
}  // namespace lycia
