// Computation reuse in the trainer: what exact reuse must not change on any layout, ranks that decide alike, and the state of a run.
//
// What would a wrong implementation still pass? A run in which nothing repeats, or in which dense is always chosen. So tokens repeat, no
// dropout makes equal rows different, and every layer's use and ratio are looked at.
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "tests/layouts/random_images.h"
#include "tests/layouts/reuse_run.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

using ::testing::HasSubstr;

TEST(ReuseLayouts, ExactReuseEqualsTheTruthOnEveryLayout) {
  struct Case {
    const char* schedule;
    int stages, data;
  };
  for (const Case& c : {Case{"1f1b", 1, 1}, Case{"1f1b", 1, 2}, Case{"chimera", 2, 1}, Case{"chimera", 4, 1}, Case{"zb-h1", 2, 1},
                        Case{"chimera-zb", 2, 2}}) {
    const Layout layout = ReuseGpt(c.schedule, c.stages, c.data, /*reuse=*/true);
    ReuseSeen seen;
    const Record record = TrainAndLook(layout, &seen);
    const Status equal = CompareWithTruth(record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
    EXPECT_GE(seen.reused, layout.ranks()) << layout.Name();  // the first block's attention, of every rank's table
    EXPECT_LT(seen.least_ratio, 0.8) << layout.Name();
  }
  for (const Case& c : {Case{"1f1b", 1, 1}, Case{"1f1b", 1, 2}, Case{"chimera", 2, 1}}) {
    Layout layout{
        .schedule = c.schedule, .stages = c.stages, .data = c.data, .micro_batches = 2, .samples = 2, .masked = true, .images = SmallCnn()};
    layout.reuse = ReuseTrainingOf(ReusePolicy::kExact, /*always=*/true);
    ReuseSeen seen;
    const Record record = TrainAndLook(layout, &seen);
    const Status equal = CompareWithTruth(record, TruthOf(layout));
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

// A Llama's MLP computes all rows; naming it is refused.
TEST(ReuseLayouts, ALlamasQueriesKeysAndValuesAreReused) {
  Layout layout = ReuseGpt("chimera", 2, 1, /*reuse=*/true);
  layout.llama = true;
  ReuseSeen seen;
  const Status equal = CompareWithTruth(TrainAndLook(layout, &seen), TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  EXPECT_GE(seen.reused, layout.ranks());
  EXPECT_LT(seen.least_ratio, 0.8);
  layout.reuse->layers.layers = {"h.0.mlp"};
  EXPECT_THAT(std::string(RunOnThreads(layout).status().message()), HasSubstr("Llama: h.0.attn"));
}

// A controller that never finds reuse to pay chooses dense: the bits of a run without it. So does a recomputed forward.
TEST(ReuseLayouts, ADenseDecisionHasTheBitsOfARunWithoutReuse) {
  for (const DType precision : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const ReusePolicy policy : {ReusePolicy::kExact, ReusePolicy::kQuantized}) {
      Layout plain = ReuseGpt("chimera", 2, 1, /*reuse=*/false), layout = plain;
      plain.precision = layout.precision = precision;
      layout.reuse = ReuseTrainingOf(policy, /*always=*/false);
      layout.reuse->rates.fixed_seconds = 1e9;
      layout.recompute = Recompute::kLayers;
      plain.recompute = Recompute::kLayers;
      ReuseSeen seen, none;
      const Status same = CompareBitwise(TrainAndLook(layout, &seen), TrainAndLook(plain, &none));
      EXPECT_TRUE(same.ok()) << layout.Name() << ": " << same;
      EXPECT_EQ(seen.reused, 0);
    }
  }
}

TEST(ReuseLayouts, AlikeRowsAreReusedAndDecidedAlike) {
  for (const ReusePolicy policy : {ReusePolicy::kQuantized, ReusePolicy::kLsh}) {
    Layout layout = ReuseGpt("chimera", 2, 2, /*reuse=*/false);
    layout.precision = DType::kF32;
    layout.reuse = ReuseTrainingOf(policy, /*always=*/true);
    layout.reuse->controller.budget = 1;
    ReuseSeen seen;
    TrainAndLook(layout, &seen);
    EXPECT_GT(seen.reused, 0) << layout.Name();
    EXPECT_LT(seen.least_ratio, 1) << layout.Name();
  }
}

// Means of patches, whatever ranks there are: clusters are those of a micro-batch, so that a pipeline's numbers are the serial run's.
TEST(ReuseLayouts, AlikePatchesAreReusedAlikeOnEveryPipeline) {
  for (const ReusePolicy policy : {ReusePolicy::kQuantized, ReusePolicy::kLsh}) {
    const auto run = [&](const char* schedule, int stages, ReuseSeen* seen) {
      Layout layout{
          .schedule = schedule, .stages = stages, .data = 1, .micro_batches = 2, .samples = 2, .masked = true, .images = SmallCnn()};
      layout.reuse = ReuseTrainingOf(policy, /*always=*/true);
      layout.reuse->controller.budget = 1;
      layout.reuse->controller.first_width = policy == ReusePolicy::kLsh ? 16 : 5.5;  // random pixels repeat in wide steps only
      const Record record = TrainAndLook(layout, seen);
      EXPECT_GT(seen->reused, 0) << layout.Name();
      EXPECT_LT(seen->least_ratio, 0.9) << layout.Name();
      return record;
    };
    ReuseSeen serial, pipeline;
    const Record expected = run("1f1b", 1, &serial);
    const Status equal = CompareWithTruth(run("chimera", 2, &pipeline), expected);
    EXPECT_TRUE(equal.ok()) << "policy " << static_cast<int>(policy) << ": " << equal;
    EXPECT_EQ(serial.least_ratio, pipeline.least_ratio);
  }
}

// One rank's trainer, of a run that saves its control in words.
StatusOr<std::unique_ptr<Trainer>> NewTrainer(const Layout& layout, Communicator& world) {
  return Trainer::Create(OptionsOf(layout), world);
}

TEST(ReuseLayouts, AStateReturnsBitByBitAndDecidesAsBefore) {
  for (const ReusePolicy policy : {ReusePolicy::kExact, ReusePolicy::kQuantized, ReusePolicy::kLsh}) {
    Layout layout = ReuseGpt("1f1b", 1, 1, /*reuse=*/false);
    layout.reuse = ReuseTrainingOf(policy, /*always=*/policy != ReusePolicy::kQuantized);
    const Status run = RunThreadRanks(1, [&](Communicator& world) -> Status {
      const std::unique_ptr<BatchSource> source = SourceOf(layout);
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> unbroken, NewTrainer(layout, world));
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> again, NewTrainer(layout, world));
      for (int step = 0; step < kSteps; ++step) LYCIA_RETURN_IF_ERROR(unbroken->TrainStep(step, *source, 1e-2, false));
      const std::string text = unbroken->reuse()->StateText();
      EXPECT_NE(again->reuse()->StateText(), text);
      LYCIA_RETURN_IF_ERROR(again->reuse()->RestoreText(text));
      EXPECT_EQ(again->reuse()->StateText(), text);
      // Weights, averages and all else that a checkpoint has.
      const std::vector<Trainer::OwnPart> from = unbroken->OwnParts(), to = again->OwnParts();
      for (std::size_t i = 0; i < from.size(); ++i) {
        for (const auto& [a, b] : {std::pair(from[i].weight, to[i].weight), {from[i].m, to[i].m}, {from[i].v, to[i].v}}) {
          again->stream().Copy(b.data, a.data, a.bytes());
        }
      }
      LYCIA_RETURN_IF_ERROR(again->PublishWeights());
      for (int step = kSteps; step < 2 * kSteps; ++step) {
        LYCIA_RETURN_IF_ERROR(unbroken->TrainStep(step, *source, 1e-2, false));
        LYCIA_RETURN_IF_ERROR(again->TrainStep(step, *source, 1e-2, false));
        EXPECT_EQ(again->loss(), unbroken->loss()) << "step " << step;
        EXPECT_EQ(again->decision().gradient_norm, unbroken->decision().gradient_norm) << "step " << step;
        EXPECT_EQ(again->reuse()->StateText(), unbroken->reuse()->StateText()) << "step " << step;
      }
      return OkStatus();
    });
    EXPECT_TRUE(run.ok()) << run;
  }
}

// In its first steps a controller times every layer dense, counts, and computes with clusters only where rows repeat: a layer whose rows
// are distinct has nothing to gain, and its results are those of the dense run.
TEST(ReuseLayouts, CalibrationTriesOnlyLayersWhoseRowsRepeat) {
  for (const ReusePolicy policy : {ReusePolicy::kExact, ReusePolicy::kQuantized}) {
    Layout layout = ReuseGpt("1f1b", 1, 1, /*reuse=*/false);
    layout.reuse = ReuseTrainingOf(policy, /*always=*/false);
    layout.reuse->controller.first_width = policy == ReusePolicy::kExact ? 0 : 1.0 / 64;
    layout.reuse->controller.least_width = 1.0 / 128;
    layout.reuse->calibration_steps = 8;
    const Status run = RunThreadRanks(1, [&](Communicator& world) -> Status {
      const std::unique_ptr<BatchSource> source = SourceOf(layout);
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, NewTrainer(layout, world));
      std::map<std::string, double> ratio;  // of the last look
      int tried = 0, not_tried = 0;
      for (int step = 0; step < layout.reuse->calibration_steps; ++step) {
        LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, *source, 1e-2, false));
        for (const ReuseControl::Row& row : trainer->reuse()->rows()) {
          SCOPED_TRACE(::testing::Message() << "step " << step << " layer " << row.layer);
          EXPECT_EQ(row.unique_ratio.has_value(), step % 2 == 1);
          EXPECT_EQ(row.relative_error.has_value(), step % 2 == 1);
          if (step % 2 == 0 || step == 1) {
            EXPECT_EQ(row.use, step == 1 ? ReuseUse::kMeasure : ReuseUse::kDense);
          } else {
            const bool repeats = ratio[row.layer] <= 0.95;
            EXPECT_EQ(row.use, repeats ? ReuseUse::kReuse : ReuseUse::kMeasure) << ratio[row.layer];
            ++(repeats ? tried : not_tried);
          }
          if (row.unique_ratio) ratio[row.layer] = *row.unique_ratio;
        }
      }
      EXPECT_GT(tried, 0);
      EXPECT_GT(not_tried, 0);
      return OkStatus();
    });
    EXPECT_TRUE(run.ok()) << run;
  }
}

TEST(ReuseLayouts, DamagedStatesAndUnknownLayersAreRefused) {
  const Layout layout = ReuseGpt("1f1b", 1, 1, /*reuse=*/true);
  const Status run = RunThreadRanks(1, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, NewTrainer(layout, world));
    ReuseControl& control = *trainer->reuse();
    const std::string good = control.StateText();
    const auto refusal = [&](const std::string& text) {
      const std::string message(control.RestoreText(text).message());
      EXPECT_EQ(control.StateText(), good) << "a refused state has left its mark";
      return message;
    };
    EXPECT_THAT(refusal(""), HasSubstr("has 0 numbers, too few"));
    EXPECT_THAT(refusal(good.substr(0, good.size() - 1)), HasSubstr("damaged at digit"));
    EXPECT_THAT(refusal(good.substr(0, good.size() - 16)), HasSubstr("numbers"));
    EXPECT_THAT(refusal(good + good.substr(0, 16)), HasSubstr("numbers"));
    std::string digits = good;
    digits[40] = 'x';
    EXPECT_THAT(refusal(digits), HasSubstr("damaged at digit 32"));
    for (std::size_t at = 0; at + 16 <= good.size(); at += 16) {  // a NaN is no number of a state
      std::string damaged = good;
      damaged.replace(at, 16, "7ff8000000000000");
      EXPECT_FALSE(refusal(damaged).empty()) << "number " << at / 16;
    }
    std::string rate = good;
    rate.replace(0, 16, "0000000000000000");  // 0 FLOP/s
    EXPECT_THAT(refusal(rate), HasSubstr("number 0 is 0"));
    return OkStatus();
  });
  EXPECT_TRUE(run.ok()) << run;

  Layout unknown = layout;
  unknown.reuse->layers.layers = {"h.0.attn", "h.7"};
  const Status refused = RunOnThreads(unknown).status();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("reuse.layers names \"h.7\", but no layer with rows that could repeat begins so"));
}

}  // namespace
}  // namespace lycia::layouts
