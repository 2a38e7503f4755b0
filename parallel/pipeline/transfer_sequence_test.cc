// The order of transfers in every call and their places, by hand; and that neighbours never share memory, whatever the sizes.
#include "parallel/pipeline/transfer_sequence.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

LayerPlan PlanOf(const std::vector<TransferSpec>& transfers) {
  LayerPlan plan(DType::kF32);
  for (const TransferSpec& spec : transfers) plan.Transfer(spec);
  return plan;
}

constexpr TransferSpec kBoth{.bytes = 640, .forward = true, .backward = true, .returns = true};

// "0.1fr@128": layer 0, transfer 1, fetches and returns, at 128; "!" where it waits for the step before.
std::vector<std::string> Printed(const std::vector<TransferStep>& steps) {
  std::vector<std::string> printed;
  for (const TransferStep& step : steps) {
    printed.push_back(
        StrCat(step.layer, ".", step.transfer, step.fetches ? "f" : "", step.returns ? "r" : "", "@", step.offset, step.early ? "" : "!"));
  }
  return printed;
}

// A table that only the forward fetches, a layer without transfers, one of two weights.
std::vector<LayerPlan> Plans(bool overlap) {
  TransferSpec table{.bytes = 1000, .forward = true, .returns = true, .overlap = overlap}, small = kBoth, large = kBoth;
  small.bytes = 128;
  small.overlap = large.overlap = overlap;
  std::vector<LayerPlan> plans;
  plans.push_back(PlanOf({table}));
  plans.push_back(PlanOf({}));
  plans.push_back(PlanOf({small, large}));
  return plans;
}

TEST(TransferSequence, ByHand) {
  const TransferSequence sequence = SequenceTransfers(Plans(true), {.split_backward = true});
  EXPECT_EQ(sequence.bytes, 1024 + 128);  // table and small; 640 + 128 is less
  EXPECT_THAT(Printed(sequence.forward), ElementsAre("0.0f@0", "2.0f@1024", "2.1f@0"));
  EXPECT_THAT(Printed(sequence.backward), ElementsAre("2.1fr@0", "2.0fr@1024", "0.0r@0"));
  EXPECT_THAT(Printed(sequence.backward_input), ElementsAre("2.1f@0", "2.0f@1024"));
  EXPECT_THAT(Printed(sequence.backward_weight), ElementsAre("2.1r@0", "2.0r@1024", "0.0r@0"));
}

TEST(TransferSequence, WithoutOverlapOneIsInMemory) {
  const TransferSequence sequence = SequenceTransfers(Plans(false), {});
  EXPECT_EQ(sequence.bytes, 1024);
  EXPECT_THAT(Printed(sequence.forward), ElementsAre("0.0f@0!", "2.0f@896!", "2.1f@0!"));
  EXPECT_THAT(Printed(sequence.backward_weight), IsEmpty());
}

TEST(TransferSequence, ForwardsThatRunAgain) {
  std::vector<LayerPlan> plans;
  for (int i = 0; i < 2; ++i) plans.push_back(PlanOf({kBoth, kBoth}));
  const TransferSequence layers = SequenceTransfers(plans, {.recompute = Recompute::kLayers});
  EXPECT_THAT(Printed(layers.backward),
              ElementsAre("1.0f@0", "1.1f@640", "1.1fr@0", "1.0fr@640", "0.0f@0", "0.1f@640", "0.1fr@0", "0.0fr@640"));
  const TransferSequence stage = SequenceTransfers(plans, {.recompute = Recompute::kStage, .split_backward = true});
  EXPECT_THAT(Printed(stage.backward),
              ElementsAre("0.0f@0", "0.1f@640", "1.0f@0", "1.1f@640", "1.1fr@0", "1.0fr@640", "0.1fr@0", "0.0fr@640"));
  EXPECT_THAT(Printed(stage.backward_weight), ElementsAre("1.1r@0", "1.0r@640", "0.1r@0", "0.0r@640"));
}

// Kept weights need no place in the forward. Where layers share the memory of kept tensors, a layer's first waits for its turn.
TEST(TransferSequence, KeptWeights) {
  TransferSpec kept = kBoth;
  kept.into_kept = true;
  kept.backward = false;
  std::vector<LayerPlan> plans;
  for (int i = 0; i < 2; ++i) plans.push_back(PlanOf({kept, kept}));
  const TransferSequence once = SequenceTransfers(plans, {});
  EXPECT_EQ(once.bytes, 1280);  // of gradients
  EXPECT_THAT(Printed(once.forward), ElementsAre("0.0f@0", "0.1f@1280", "1.0f@0", "1.1f@1280"));
  EXPECT_THAT(Printed(once.backward), ElementsAre("1.1r@0", "1.0r@640", "0.1r@0", "0.0r@640"));
  const TransferSequence layers = SequenceTransfers(plans, {.recompute = Recompute::kLayers});
  EXPECT_THAT(Printed(layers.forward), ElementsAre("0.0f@0!", "0.1f@1280", "1.0f@0!", "1.1f@1280"));
}

TEST(TransferSequence, NeighboursNeverShareMemory) {
  for (int seed = 0; seed < 200; ++seed) {
    const RandomStream random(7, "transfers", static_cast<std::uint64_t>(seed));
    std::uint64_t at = 0;
    const auto draw = [&](std::uint32_t below) { return static_cast<std::int64_t>(random.Bits(at++) % below); };
    std::vector<LayerPlan> plans;
    for (std::int64_t layers = 1 + draw(5); layers > 0; --layers) {
      std::vector<TransferSpec> transfers;
      for (std::int64_t t = draw(4); t > 0; --t) {
        const bool into_kept = draw(4) == 0;
        transfers.push_back({.bytes = 1 + draw(5000),
                             .forward = draw(4) > 0,
                             .backward = !into_kept && draw(3) > 0,
                             .into_kept = into_kept,
                             .returns = draw(3) > 0,
                             .overlap = draw(5) > 0});
      }
      plans.push_back(PlanOf(transfers));
    }
    const TransferSequence sequence = SequenceTransfers(plans, {.recompute = static_cast<Recompute>(draw(3)), .split_backward = true});
    for (const auto* steps : {&sequence.forward, &sequence.backward, &sequence.backward_input, &sequence.backward_weight}) {
      for (std::size_t i = 0; i < steps->size(); ++i) {
        const TransferStep &step = (*steps)[i], &before = (*steps)[i == 0 ? 0 : i - 1];
        const auto spec = [&](const TransferStep& of) {
          return plans[static_cast<std::size_t>(of.layer)].transfers()[static_cast<std::size_t>(of.transfer)];
        };
        EXPECT_EQ(step.offset % 64, 0);
        EXPECT_GE(step.offset, 0);
        EXPECT_LE(step.offset + step.bytes, sequence.bytes) << "seed " << seed;
        EXPECT_EQ(step.bytes, step.fetches && spec(step).into_kept ? 0 : spec(step).bytes) << "seed " << seed;
        if (i == 0 || (!spec(step).overlap && !spec(before).overlap)) continue;
        EXPECT_TRUE(step.offset + step.bytes <= before.offset || before.offset + before.bytes <= step.offset) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace lycia
