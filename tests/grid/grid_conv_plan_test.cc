// What a convolution on a grid promises beside its numbers: refusals with the numbers, memory that is planned, no allocation in a step,
// the same bits with and without overlap.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "runtime/device/testing/count_allocations.h"
#include "tests/grid/grid_conv_for_test.h"

namespace lycia {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Unit = GridConvUnit::Options;

ConvCase Case(int x, int y, int z) {
  ConvCase c{.x = x, .y = y, .z = z, .in = {.samples = 12 * z, .height = 6, .width = 5, .channels = 7}};
  const auto unit = [&](const std::string& name, std::int64_t filters, std::int64_t filter) {
    return Unit{.name = name, .norm = name + ".bn", .filters = filters, .filter = filter, .norm_samples = 2};
  };
  c.blocks = {{{unit("a", 8, 3), unit("b", 9, 1)}}, {{unit("c", 6, 3), unit("d", 9, 3)}, /*skip=*/true}};
  c.micro_batches = 2;
  return c;
}

TEST(GridConvPlan, OverlapChangesNoBit) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const bool cached : {false, true}) {
      ConvCase c = Case(2, 2, 2);
      c.dtype = dtype;
      c.policy = {.cache_inputs = cached, .cache_weights = cached};
      ConvResult overlapped, waiting;
      const Status run = RunConv(c, overlapped);
      ASSERT_TRUE(run.ok()) << run;
      c.policy.overlap = false;
      ASSERT_TRUE(RunConv(c, waiting).ok());
      EXPECT_EQ(overlapped.numbers.out, waiting.numbers.out);
      EXPECT_EQ(overlapped.numbers.din, waiting.numbers.din);
      EXPECT_EQ(overlapped.numbers.gradients, waiting.numbers.gradients);
    }
  }
}

TEST(GridConvPlan, AStepAllocatesNothing) {
  for (const int variant : {0, 1, 2, 3}) {
    ConvCase c = Case(2, 2, 2);
    c.dtype = variant == 3 ? DType::kBF16 : DType::kF32;
    c.split = variant == 1;
    c.policy.overlap = variant != 2;
    c.policy.cache_weights = variant == 3;
    SCOPED_TRACE(c.ToString());
    ConvResult result;
    const Status run = RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<ConvRank> rank, ConvRank::Create(world, c));
      LYCIA_RETURN_IF_ERROR(rank->Step(result));
      LYCIA_RETURN_IF_ERROR(rank->StepAgain());
      const std::int64_t before = testing::AllocationsOfThisThread();
      EXPECT_GT(before, 0);  // the count counts
      LYCIA_RETURN_IF_ERROR(rank->StepAgain());
      EXPECT_EQ(testing::AllocationsOfThisThread() - before, 0) << "rank " << world.rank();
      return OkStatus();
    });
    EXPECT_TRUE(run.ok()) << run;
  }
}

// Beyond operands and their gathered copies a convolution has no memory: none for patches, whatever the filter.
TEST(GridConvPlan, NoMemoryForPatches) {
  std::int64_t bytes[2] = {};
  for (const int i : {0, 1}) {
    ConvCase c{.x = 2, .y = 2, .z = 1, .in = {.samples = 8, .height = 16, .width = 16, .channels = 8}, .dtype = DType::kF32};
    c.blocks = {{{Unit{.name = "a", .filters = 8, .filter = i == 0 ? 1 : 5, .relu = false}}}};
    const Status run = RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<ConvRank> rank, ConvRank::Create(world, c));
      if (world.rank() != 0) return OkStatus();
      for (const Area area : {Area::kStash, Area::kInput, Area::kHandoff, Area::kTransient}) bytes[i] += rank->stage().bytes(area);
      return OkStatus();
    });
    ASSERT_TRUE(run.ok()) << run;
  }
  EXPECT_EQ(bytes[0], bytes[1]);
}

TEST(GridConvPlan, RefusesWhatDoesNotDivide) {
  const GridConvProblem fits{.samples = 24, .channels = 3, .filters = 5, .norm_samples = 2};
  EXPECT_THAT(GridConvRefusals(fits, {.rows = 2, .contraction = 3, .columns = 4}), IsEmpty());
  EXPECT_THAT(GridConvRefusals({.samples = 10, .channels = 3, .filters = 5}, {.rows = 4, .contraction = 1, .columns = 1}),
              ElementsAre("R = 4 does not divide the 10 samples of a micro-batch; use 8 or 12 samples, or R = 2"));
  EXPECT_THAT(GridConvRefusals({.samples = 20, .channels = 3, .filters = 5}, {.rows = 2, .contraction = 4, .columns = 3}),
              ElementsAre("N = 3 does not divide the 10 samples that one R holds; use 9 or 12 of them, or N = 2",
                          "K = 4 does not divide the 10 samples that one R holds; use 8 or 12 of them, or K = 2"));
  EXPECT_THAT(
      GridConvRefusals({.samples = 24, .channels = 3, .filters = 5, .norm_samples = 4}, {.rows = 2, .contraction = 2, .columns = 1}),
      ElementsAre("a batch norm over 4 samples does not divide the 6 samples that one (R, K) holds; use 4 or 8 of them, or a norm "
                  "over 3"));
  EXPECT_THAT(GridConvRefusals({.samples = 24, .channels = 4, .filters = 4, .groups = 4}, {.rows = 2, .contraction = 2, .columns = 1}),
              ElementsAre(HasSubstr("a convolution of 4 groups is not cut by channels")));
  EXPECT_THAT(GridConvRefusals({.samples = 24, .channels = 4, .filters = 4, .groups = 4}, {.rows = 8, .contraction = 1, .columns = 1}),
              IsEmpty());
}

// What Create says of a case on its first rank.
std::string Refusal(const ConvCase& c) {
  std::string message;
  const Status run = RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
    const Status status = ConvRank::Create(world, c).status();
    if (world.rank() == 0) message = std::string(status.message());
    return OkStatus();
  });
  EXPECT_TRUE(run.ok()) << run;
  return message;
}

TEST(GridConvPlan, LayersSayWhichConvolutionIsRefused) {
  ConvCase c = Case(2, 2, 1);
  c.in.samples = 6;  // 3 of one (z, x): no two
  EXPECT_THAT(Refusal(c), HasSubstr("a, whose R, K, N are z, x, y"));
  EXPECT_THAT(Refusal(c), HasSubstr("a batch norm over 2 samples does not divide the 3 samples that one (R, K) holds"));
  ConvCase odd = Case(2, 2, 1);
  odd.blocks[1].units.pop_back();
  EXPECT_THAT(Refusal(odd), HasSubstr("a residual connection goes around an even number of convolutions"));
  ConvCase strided = Case(1, 1, 1);
  strided.blocks[1].units[0].stride = 2;
  EXPECT_THAT(Refusal(strided), HasSubstr("does not lie as what goes around them"));
  ConvCase plain = Case(1, 2, 1);
  plain.blocks[1].units[1].norm = "";
  EXPECT_THAT(Refusal(plain), HasSubstr("a residual is added after a batch norm"));
}

// Roles that do not fit how X lies are an error of the plan.
TEST(GridConvPlan, SwappedRolesAreRefused) {
  const Status run = RunThreadRanks(4, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = 2, .y = 2, .z = 1}, 4));
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Grid> grid, Grid::Create(world, mesh));
    const ConvShape whole{.N = 4, .C = 4, .K = 6, .height = {.in = 3}, .width = {.in = 3}};
    const GridRoles roles{.rows = Axis::kZ, .contraction = Axis::kX, .columns = Axis::kY};
    LYCIA_ASSIGN_OR_RETURN(const GridConvShape shape, FitConv(*grid, roles, whole));
    LayerPlan plan(DType::kF64);
    GridScratch scratch;
    const GridParameter filter = ConvFilter(shape, "w", /*each_step=*/false);
    const ParameterHandle handle = plan.Parameter(filter.LayerSpec(*grid));
    const Sharding other{.x = Spread::kRows, .y = Spread::kColumns, .z = Spread::kRows};
    const Status status = GridConv::Create({.shape = shape, .in = other, .weight = {filter, handle, handle}}, plan, &scratch).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("takes it cut by rows along y"));
    return OkStatus();
  });
  EXPECT_TRUE(run.ok()) << run;
}

}  // namespace
}  // namespace lycia
