// After its first step a rank of a grid takes nothing from the heap: transfers, their events and their memory are all there.
#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "runtime/device/testing/count_allocations.h"
#include "tests/grid/grid_rank_for_test.h"

namespace lycia {
namespace {

TEST(GridAllocations, AStepMakesNone) {
  for (const int variant : {0, 1, 2, 3, 4}) {
    GridCase c{.x = 2, .y = 2, .z = 2, .micro_batches = 2};
    c.options.model = {.layers = 2, .heads = 8, .kv_heads = 1, .hidden = 24, .context = 10, .vocab = 22, .ffn = 80, .dropout = 0.2};
    c.options.samples = 4;
    c.options.sequence = 8;
    c.split = variant == 1;
    c.recompute = variant == 2 ? Recompute::kLayers : Recompute::kNone;
    c.options.policy.overlap = variant != 3;
    c.options.policy.cache_weights = variant == 4;
    SCOPED_TRACE(c.ToString());
    GridResult result;
    const truth::TokenBatch batch = RandomBatch(c);
    const Status run = RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<GridRank> rank, GridRank::Create(world, c));
      LYCIA_RETURN_IF_ERROR(rank->Step(batch, result));
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

}  // namespace
}  // namespace lycia
