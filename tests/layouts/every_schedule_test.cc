// Every schedule of the table trains what the independent serial truth trains, on D = 2, 4, 6 and 8 workers as threads, while a watch
// measures its memory and its allocations (memory_watch.h).
//
// A wrong execution would pass with one micro-batch, one stage a worker or a backward in one piece: so there are fewer, as many and more
// micro-batches than workers, and depths at which every stage has its own layers.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/schedule/generators.h"
#include "tests/layouts/memory_watch.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

using schedule::GradientSyncMode;
using schedule::UpdateMode;

Record RunOrFail(const Layout& layout) {
  StatusOr<Record> record = RunOnThreads(layout, [] { return std::make_unique<MemoryWatch>(); });
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  return record.ok() ? *std::move(record) : Record{std::vector<StepRecord>(kSteps), 0};
}

void ExpectTruth(const Layout& layout) {
  const Status equal = CompareWithTruth(RunOrFail(layout), TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
}

class EverySchedule : public testing::TestWithParam<std::string> {};

TEST_P(EverySchedule, TrainsWhatTheTruthTrains) {
  for (const int workers : {2, 4, 6, 8}) {
    const std::vector<Layout> layouts = LayoutsOf(GetParam(), workers);
    EXPECT_FALSE(layouts.empty()) << GetParam() << " on " << workers << " workers";
    for (const Layout& layout : layouts) ExpectTruth(layout);
  }
}

// When a sum or an update happens changes no bit; without clipping, nor does stepping each stage as soon as its sum is there.
TEST_P(EverySchedule, SynchronisationAndUpdateModesHaveTheSameBits) {
  for (const int workers : {2, 4}) {
    for (const bool clip : {true, false}) {
      Layout layout = LayoutsOf(GetParam(), workers).back();
      layout.data = workers == 2 ? 2 : 1;
      layout.clip = clip;
      layout.sync = GradientSyncMode::kLazy;
      const Record lazy = RunOrFail(layout);
      if (!clip) {
        const Status equal = CompareWithTruth(lazy, TruthOf(layout));
        EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
      }
      for (const UpdateMode update : {UpdateMode::kDecided, UpdateMode::kEager}) {
        if (clip && update == UpdateMode::kEager) continue;
        for (const GradientSyncMode sync : {GradientSyncMode::kEager, GradientSyncMode::kEagerOpt}) {
          layout.update = update;
          layout.sync = sync;
          const Status same = CompareBitwise(RunOrFail(layout), lazy);
          EXPECT_TRUE(same.ok()) << layout.Name() << " against lazy: " << same;
        }
      }
    }
  }
}

// Computing again gives the same bits, also where the weight gradient comes later. In parts, matrix products have other shapes than in one.
TEST_P(EverySchedule, RecomputeChangesNoBit) {
  Layout layout = LayoutsOf(GetParam(), 2).back();
  layout.blocks = 3;
  const Record plain = RunOrFail(layout);
  for (const Recompute recompute : {Recompute::kLayers, Recompute::kStage}) {
    layout.recompute = recompute;
    const Record again = RunOrFail(layout);
    const Status equal = layout.samples > 1 ? CompareWithTruth(again, TruthOf(layout)) : CompareBitwise(again, plain);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const schedule::Generator& generator : schedule::Generators()) names.push_back(generator.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Schedules, EverySchedule, testing::ValuesIn(Names()), [](const auto& info) {
  std::string name = "With_" + info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// Written by hand: two workers, a V of four stages with two pipes against each other, halves, split backwards out of order.
TEST(ScheduleFile, TrainsWhatTheTruthTrains) {
  const struct {
    int micro_batches, samples;
    const char* csv;
  } files[] = {
      {2, 1,
       "p0.0F0,p0.0F1,p0.3F0,p0.3I0,p0.3F1,p0.3W0,p0.3B1,p0.0I0,p0.0B1,p0.0W0\n"
       "p0.1F0,p0.2F0,p0.1F1,p0.2F1,p0.2I0,p0.1B0,p0.2W0,p0.2B1,p0.1B1"},
      {2, 2,
       "p0.0F0,p1.1F1,p1.1B1/0,p0.0B0/0,p1.1B1/1,p0.0B0/1\n"
       "p1.0F1,p0.1F0,p0.1B0/0,p1.0B1/0,p0.1B0/1,p1.0B1/1"},
      {1, 3,
       "p0.0F0,p0.1F0,p0.2F0,p0.2I0/0,p0.1I0/0,p0.0I0/0,p0.2I0/1,p0.2W0/0,p0.1I0/1,p0.0I0/1,p0.2I0/2,p0.1I0/2,p0.0I0/2,"
       "p0.2W0/1,p0.2W0/2,p0.1W0/0,p0.1W0/2,p0.1W0/1,p0.0W0/0,p0.0W0/1,p0.0W0/2"},
  };
  for (const auto& [micro_batches, samples, csv] : files) {
    const int workers = 1 + static_cast<int>(std::count(csv, csv + std::string(csv).size(), '\n'));
    for (const Recompute recompute : {Recompute::kNone, Recompute::kStage}) {
      ExpectTruth(
          {.schedule = "file", .csv = csv, .stages = workers, .micro_batches = micro_batches, .samples = samples, .recompute = recompute});
    }
  }
}

}  // namespace
}  // namespace lycia::layouts
