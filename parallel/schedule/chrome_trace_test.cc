// The trace must be what viewers load, and its messages must agree with the simulator's clock, which it does not ask.
#include "parallel/schedule/chrome_trace.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/schedule/comparison.h"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/passes.h"

namespace lycia::schedule {
namespace {

using Json = nlohmann::json;

Json Trace(const Schedule& schedule, const Costs& costs) {
  const TickCosts ticks = *ToTicks(costs, TickDivisor(schedule));
  return Json::parse(RenderChromeTrace(schedule, *Simulate(schedule, {.costs = ticks}), ticks))["traceEvents"];
}

TEST(ChromeTraceTest, HasTheViewersForm) {
  Costs costs;
  costs.latency = {1, 2}, costs.sync = {3, 1}, costs.update = {1, 1};
  const Json events = Trace(Complete(Must("chimera", 4, 4)), costs);
  std::map<std::string, int> phases;
  std::map<std::string, std::vector<int>> threads;  // by name
  for (const Json& event : events) {
    ++phases[event["ph"]];
    if (event["name"] == "thread_name") threads[event["args"]["name"]].push_back(event["pid"]);
    ASSERT_TRUE(event["pid"].is_number() && event["tid"].is_number()) << event;
    if (event["ph"] == "X") {
      ASSERT_GE(event["dur"], 0) << event;
    }
  }
  const int messages = 4 * 2 * 3;  // micro-batches, directions, boundaries
  EXPECT_EQ(phases["X"], 4 * 8 + messages + 8 + 4);
  EXPECT_EQ(phases["s"], messages);
  EXPECT_EQ(phases["f"], messages);
  EXPECT_EQ(threads["compute"].size(), 4u);
  EXPECT_EQ(threads["gradient sync"].size(), 4u);
  EXPECT_GE(threads["messages"].size(), 4u);
  // Worker 0's first forward: one unit is 1000 us.
  bool found = false;
  for (const Json& event : events) {
    if (event["name"] != "p0.0F1") continue;
    EXPECT_EQ(event["ts"], 1000);
    EXPECT_EQ(event["dur"], 1000);
    found = true;
  }
  EXPECT_TRUE(found);
}

struct Slice {
  double start;
  double end;
  bool message;
};

// Slices of a thread follow each other, arrows start and end inside one, and whatever a worker idles for arrives just then.
void ExpectConsistent(const Json& events) {
  constexpr double kRounding = 1e-6;
  std::map<std::pair<int, int>, std::vector<Slice>> threads;  // (process, thread)
  std::vector<double> arrivals;
  for (const Json& event : events) {
    if (event["ph"] != "X") continue;
    const double start = event["ts"], end = start + event["dur"].get<double>();
    const bool message = event["cat"] == "message";
    threads[{event["pid"], event["tid"]}].push_back({start, end, message});
    if (message) arrivals.push_back(end);
  }
  for (auto& [thread, slices] : threads) {
    std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) { return a.start < b.start; });
    double free = 0;
    for (const Slice& slice : slices) {
      ASSERT_GE(slice.start, free - kRounding);
      const bool waited = !slice.message && slice.start > free + kRounding;
      const bool arrived = std::any_of(arrivals.begin(), arrivals.end(), [&](double at) { return std::abs(at - slice.start) < kRounding; });
      ASSERT_TRUE(!waited || arrived) << "process " << thread.first << " at " << slice.start;
      free = slice.end;
    }
  }
  for (const Json& event : events) {
    if (event["ph"] != "s" && event["ph"] != "f") continue;
    const double at = event["ts"];
    bool inside = false;
    for (const Slice& slice : threads[{event["pid"], event["tid"]}]) inside = inside || (slice.start <= at && at < slice.end);
    ASSERT_TRUE(inside) << event;
  }
}

TEST(ChromeTraceTest, MessagesAgreeWithTheSimulator) {
  Costs costs = *ParseCosts("F=2,B=3");
  costs.latency = {3, 2}, costs.transmit = {1, 1};
  for (const char* csv : {"p0.0F0,p1.1F1,(p0.0F2;p1.1B1)OVERLAP_F_B,p0.0B0,p0.0B2\np1.0F1,p0.1F0,p0.1I0,p0.1W0,p0.1F2,p0.1B2,p1.0B1\n"}) {
    const StatusOr<Schedule> schedule = ParseCsv(csv);
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    ExpectConsistent(Trace(*schedule, costs));
  }
  for (const Generator& generator : Generators()) {
    for (const int N : {4, 8, 16}) {
      const StatusOr<Schedule> schedule = Generate(generator.name, {.workers = 4, .micro_batches = N});
      if (!schedule.ok()) continue;
      SCOPED_TRACE(testing::Message() << generator.name << " N " << N);
      const Json events = Trace(*schedule, costs);
      ExpectConsistent(events);
      std::int64_t messages = 0;
      for (const Json& event : events) messages += event["ph"] == "X" && event["cat"] == "message";
      EXPECT_EQ(messages, CountMessages(*schedule));
    }
  }
}

}  // namespace
}  // namespace lycia::schedule
