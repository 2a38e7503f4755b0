// Spans must carry wall and CPU time apart, cost no allocation, survive a gather, and make a trace that a JSON reader accepts.
#include "runtime/trace/spans.h"

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

TEST(SpanRecorder, RecordsNestedSpansWithWallAndCpuTime) {
  SpanRecorder recorder(3, 8);
  EXPECT_EQ(recorder.Begin({.name = "off"}), -1);  // disabled
  recorder.Enable(true);
  const std::int64_t before = testing::AllocationsOfThisThread();
  const std::int64_t outer = recorder.Begin({.name = "p0.1F3", .instruction = 5, .step = 7});
  const std::int64_t inner = recorder.Begin({.name = "a name that is much longer than a span can hold", .lane = Lane::kMessages});
  std::this_thread::sleep_for(std::chrono::milliseconds(30));  // wall time without CPU time
  recorder.End(inner);
  volatile double burn = 1;
  for (int i = 0; i < 5'000'000; ++i) burn = burn * 1.0000001;  // CPU time
  recorder.End(outer);
  EXPECT_EQ(testing::AllocationsOfThisThread(), before);

  const std::vector<Span>& spans = recorder.recorded().spans;
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_STREQ(spans[0].name, "p0.1F3");
  EXPECT_STREQ(spans[1].name, "a name that is much longer than");
  EXPECT_EQ(spans[0].instruction, 5);
  EXPECT_EQ(spans[0].step, 7);
  EXPECT_GE(spans[1].wall_ns(), 30'000'000);
  EXPECT_LT(spans[1].cpu_ns(), spans[1].wall_ns() / 2);
  EXPECT_GT(spans[0].cpu_ns(), spans[1].cpu_ns());
  EXPECT_GE(spans[0].end_ns, spans[1].end_ns);
  EXPECT_LE(spans[0].start_ns, spans[1].start_ns);
}

TEST(SpanRecorder, AFullRecorderDropsAndCounts) {
  SpanRecorder recorder(0, 2);
  recorder.Enable(true);
  const std::int64_t before = testing::AllocationsOfThisThread();
  for (int i = 0; i < 5; ++i) recorder.End(recorder.Begin({.name = "x"}));
  EXPECT_EQ(testing::AllocationsOfThisThread(), before);
  EXPECT_EQ(recorder.recorded().spans.size(), 2u);
  EXPECT_EQ(recorder.recorded().dropped, 3);
  recorder.Clear();
  EXPECT_EQ(recorder.Begin({.name = "y"}), 0);
  EXPECT_EQ(recorder.recorded().dropped, 0);
}

// Two ranks on hosts whose monotonic clocks differ by 5 s, a message between them.
std::vector<RankSpans> TwoRanks() {
  std::vector<RankSpans> ranks(2);
  for (int r = 0; r < 2; ++r) {
    ranks[static_cast<std::size_t>(r)].rank = r;
    ranks[static_cast<std::size_t>(r)].host = r == 0 ? "a \"quoted\" host" : "b";
    ranks[static_cast<std::size_t>(r)].clock_offset_ns = r == 0 ? 0 : -5'000'000'000;
  }
  Span send{.name = "p0.0SENDF0", .lane = Lane::kMessages, .step = 2, .start_ns = 1'000, .end_ns = 3'000};
  send.cpu_start_ns = 10;
  send.cpu_end_ns = 510;
  send.flow_out = FlowId(0, 1, 0, 9);
  Span receive{.name = "p0.1RECVF0", .step = 2, .start_ns = 5'000'002'000, .end_ns = 5'000'004'000};
  receive.flow_in = FlowId(0, 1, 0, 9);
  ranks[0].spans = {send};
  ranks[1].spans = {receive};
  ranks[1].dropped = 4;
  return ranks;
}

TEST(Spans, SurviveAGatherAndAreRefusedWhenTorn) {
  const RankSpans spans = TwoRanks()[1];
  const std::string bytes = SerializeSpans(spans);
  const StatusOr<RankSpans> parsed = ParseSpans(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(SerializeSpans(*parsed), bytes);
  EXPECT_EQ(parsed->host, "b");
  EXPECT_EQ(parsed->dropped, 4);
  EXPECT_STREQ(parsed->spans[0].name, "p0.1RECVF0");
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(ParseSpans(std::string_view(bytes).substr(0, length)).status().code(), absl::StatusCode::kDataLoss) << length;
  }
  std::string other = bytes;
  other[0] ^= 1;
  EXPECT_FALSE(ParseSpans(other).ok());
  EXPECT_TRUE(ParseSpans(SerializeSpans({})).ok());
}

TEST(Spans, FlowIdsOfAStepDiffer) {
  std::set<std::uint64_t> ids;
  for (int sender = 0; sender < 4; ++sender) {
    for (int receiver = 0; receiver < 4; ++receiver) {
      for (int lane = 0; lane < 4; ++lane) {
        for (std::uint64_t sequence = 0; sequence < 50; ++sequence) ids.insert(FlowId(sender, receiver, lane, sequence));
      }
    }
  }
  EXPECT_EQ(ids.size(), 4u * 4 * 4 * 50);
  EXPECT_EQ(ids.count(0), 0u);
}

TEST(ChromeTrace, IsJsonWithSpansNamesAndArrowsOnOneClock) {
  const nlohmann::json trace = nlohmann::json::parse(ChromeTrace(TwoRanks()));
  std::map<std::string, std::vector<nlohmann::json>> events;
  for (const nlohmann::json& event : trace["traceEvents"]) events[event["ph"]].push_back(event);
  ASSERT_EQ(events["X"].size(), 2u);
  const nlohmann::json &send = events["X"][0], &receive = events["X"][1];
  EXPECT_EQ(send["name"], "p0.0SENDF0");
  EXPECT_EQ(send["pid"], 0);
  EXPECT_EQ(send["tid"], static_cast<int>(Lane::kMessages));
  EXPECT_DOUBLE_EQ(send["ts"], 0.0);
  EXPECT_DOUBLE_EQ(send["dur"], 2.0);
  EXPECT_DOUBLE_EQ(send["args"]["cpu_us"], 0.5);
  EXPECT_DOUBLE_EQ(receive["ts"], 1.0);  // the same clock for both hosts
  ASSERT_EQ(events["s"].size(), 1u);
  ASSERT_EQ(events["f"].size(), 1u);
  EXPECT_EQ(events["s"][0]["id"], events["f"][0]["id"]);
  EXPECT_LT(events["s"][0]["ts"].get<double>(), events["f"][0]["ts"].get<double>());
  bool named = false;
  for (const nlohmann::json& event : events["M"]) {
    named = named || (event["name"] == "process_name" && event["args"]["name"] == "rank 0 on a \"quoted\" host");
  }
  EXPECT_TRUE(named);
  EXPECT_TRUE(nlohmann::json::parse(ChromeTrace({})).is_object());
}

}  // namespace
}  // namespace lycia
