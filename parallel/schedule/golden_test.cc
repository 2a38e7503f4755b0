// Published and independently simulated numbers, exactly. Another order of the same instructions would pass Verify, and often the makespan
// too; so bubble, peaks and times with latency are compared as well, and whole rows where an order is published.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {
namespace {

using ::testing::DoubleNear;

Timeline Time(const Schedule& schedule, std::string_view text, std::string_view latency = "0") {
  StatusOr<Costs> costs = ParseCosts(text);
  EXPECT_TRUE(costs.ok()) << costs.status();
  costs->latency = *ParseFraction(latency);
  StatusOr<Timeline> timeline = Simulate(schedule, {.costs = *ToTicks(*costs, TickDivisor(schedule))});
  EXPECT_TRUE(timeline.ok()) << timeline.status();
  return *std::move(timeline);
}

// "makespan / bubble % / least-most peak", a cell of the tables.
std::string Cell(const Schedule& schedule, std::string_view costs) {
  const Timeline timeline = Time(schedule, costs);
  const std::vector<double> peaks = PeakActivations(schedule);
  const auto [least, most] = std::minmax_element(peaks.begin(), peaks.end());
  std::string text = absl::StrFormat("%g / %.2f / %g", MakespanUnits(timeline), 100 * BubbleRatio(timeline), *least);
  if (*least != *most) absl::StrAppend(&text, "-", *most);
  return text;
}

// A table: one line per (D, N), one cell per schedule; nullptr where the schedule takes no such N.
struct Line {
  int D, N;
  std::vector<const char*> cells;
};

void ExpectTable(const std::vector<const char*>& names, const std::vector<Line>& lines, std::string_view costs) {
  for (const Line& line : lines) {
    ASSERT_EQ(line.cells.size(), names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      SCOPED_TRACE(absl::StrCat(names[i], " D ", line.D, " N ", line.N));
      if (line.cells[i] != nullptr) {
        EXPECT_EQ(Cell(Must(names[i], line.D, line.N), costs), line.cells[i]);
      } else {
        EXPECT_FALSE(Generate(names[i], {.workers = line.D, .micro_batches = line.N}).ok());
      }
    }
  }
}

TEST(GoldenTest, FullBackwards) {
  ExpectTable({"gpipe", "1f1b", "interleaved", "chimera"},
              {
                  {4, 4, {"21 / 42.86 / 4", "21 / 42.86 / 1-4", "16.5 / 27.27 / 4", "16 / 25.00 / 3-4"}},
                  {4, 8, {"33 / 27.27 / 8", "33 / 27.27 / 1-4", "28.5 / 15.79 / 2.5-5.5", "30 / 20.00 / 3-4"}},
                  {4, 16, {"57 / 15.79 / 16", "57 / 15.79 / 1-4", "52.5 / 8.57 / 2.5-5.5", "58 / 17.24 / 3-4"}},
                  {8, 8, {"45 / 46.67 / 8", "45 / 46.67 / 1-8", "34.5 / 30.43 / 8", "36 / 33.33 / 5-8"}},
                  {8, 16, {"69 / 30.43 / 16", "69 / 30.43 / 1-8", "58.5 / 17.95 / 4.5-11.5", "66 / 27.27 / 5-8"}},
                  {8, 32, {"117 / 17.95 / 32", "117 / 17.95 / 1-8", "106.5 / 9.86 / 4.5-11.5", "126 / 23.81 / 5-8"}},
                  {16, 16, {"93 / 48.39 / 16", "93 / 48.39 / 1-16", "70.5 / 31.91 / 16", "76 / 36.84 / 9-16"}},
                  {16, 32, {"141 / 31.91 / 32", "141 / 31.91 / 1-16", "118.5 / 18.99 / 8.5-23.5", "138 / 30.43 / 9-16"}},
                  {16, 64, {"237 / 18.99 / 64", "237 / 18.99 / 1-16", "214.5 / 10.49 / 8.5-23.5", "262 / 26.72 / 9-16"}},
              },
              "F=1,B=2");
}

TEST(GoldenTest, SplitBackwards) {
  ExpectTable({"zb-h1", "zb-v", "dualpipe", "dualpipev"},
              {
                  {4, 4, {"15 / 20.00 / 4", "15 / 20.00 / 2.5-4", nullptr, nullptr}},
                  {4, 8, {"27 / 11.11 / 4", "25.5 / 5.88 / 4", "26 / 7.69 / 5", "27 / 11.11 / 4.5"}},
                  {4, 16, {"51 / 5.88 / 4", "49.5 / 3.03 / 4", "50 / 4.00 / 5", "51 / 5.88 / 4.5"}},
                  {8, 8, {"31 / 22.58 / 8", "31 / 22.58 / 4.5-8", nullptr, nullptr}},
                  {8, 16, {"55 / 12.73 / 8", "51.5 / 6.80 / 8", "54 / 11.11 / 9", "55 / 12.73 / 8.5"}},
                  {8, 32, {"103 / 6.80 / 8", "99.5 / 3.52 / 8", "102 / 5.88 / 9", "103 / 6.80 / 8.5"}},
                  {16, 16, {"63 / 23.81 / 16", "63 / 23.81 / 8.5-16", nullptr, nullptr}},
                  {16, 32, {"111 / 13.51 / 16", "103.5 / 7.25 / 16", "110 / 12.73 / 17", "111 / 13.51 / 16.5"}},
                  {16, 64, {"207 / 7.25 / 16", "199.5 / 3.76 / 16", "206 / 6.80 / 17", "207 / 7.25 / 16.5"}},
              },
              "F=1,I=1,W=1");
}

TEST(GoldenTest, MakespansWithLatency) {
  const std::vector<const char*> names = {"gpipe", "1f1b", "interleaved", "chimera", "zb-h1", "zb-v", "dualpipe"};
  struct Row {
    int D, N;
    std::vector<int> makespans;  // 0 = none
  };
  const Row rows[] = {
      {4, 4, {48, 52, 47, 39, 40, 42, 0}},
      {4, 8, {72, 82, 71, 71, 66, 65, 61}},
      {8, 8, {104, 116, 99, 91, 88, 90, 0}},
      {8, 16, {152, 178, 147, 163, 138, 137, 132}},
  };
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (row.makespans[i] == 0) continue;
      EXPECT_EQ(MakespanUnits(Time(Must(names[i], row.D, row.N), "F=2,I=2,W=2", "1")), row.makespans[i])
          << names[i] << " D " << row.D << " N " << row.N;
    }
  }
}

TEST(GoldenTest, ManyPipes) {
  struct Row {
    int D, f, N, makespan;
  };
  for (const Row& row : {Row{8, 2, 8, 28},
                         {8, 2, 16, 54},
                         {8, 2, 32, 106},
                         {16, 2, 16, 60},
                         {16, 2, 32, 114},
                         {16, 2, 64, 222},
                         {16, 4, 16, 52},
                         {16, 4, 32, 102},
                         {16, 4, 64, 202}}) {
    EXPECT_EQ(MakespanUnits(Time(Must("chimera", row.D, row.N, 2 * row.f), "F=1,B=2")), row.makespan)
        << "D " << row.D << " f " << row.f << " N " << row.N;
  }
  for (const int D : {2, 4, 6, 8, 12, 16, 32}) {
    for (const int K : {1, 2, 3})
      EXPECT_EQ(MakespanUnits(Time(Must("chimera", D, K * D, D), "F=1,B=2")), 3 * K * D) << "f = D/2 has no bubble";
  }
}

// ZB paper, table 5: 8 workers, 24 micro-batches, measured costs in ms.
TEST(GoldenTest, PublishedRates) {
  const auto rate = [](const char* name) { return BubbleRatio(Time(Must(name, 8, 24), "F=18.522,I=18.086,W=9.337", "0.601")); };
  EXPECT_THAT(rate("1f1b"), DoubleNear(0.2431, 0.00005));
  EXPECT_THAT(rate("zb-h1"), DoubleNear(0.1585, 0.00005));
}

// DualPipe's official chart for 8 workers and 20 micro-batches has 66 columns, 6 of them idle; DualPipeV has 60 + 7 (DeepSeek-AI 2024).
TEST(GoldenTest, OfficialChartsOfDualPipe) {
  EXPECT_EQ(MakespanUnits(Time(Must("dualpipe", 8, 20), "F=1,I=1,W=1")), 66);
  EXPECT_EQ(MakespanUnits(Time(Must("dualpipev", 8, 20), "F=1,I=1,W=1")), 67);
}

// "7F0 (0F7&7B3)": stage, kind, micro-batch; pairs in brackets.
std::string Row(const Schedule& schedule, int worker) {
  std::string row;
  bool inside = false;
  for (const Instruction& i : schedule.program[worker]) {
    absl::StrAppend(&row, row.empty() || inside ? "" : " ", i.paired_with_next ? "(" : "", i.stage, std::string(1, OpLetter(i.op)),
                    i.micro_batch,
                    i.paired_with_next ? "&"
                    : inside           ? ")"
                                       : "");
    inside = i.paired_with_next;
  }
  return row;
}

TEST(GoldenTest, DualPipeVIsTheOrderThatPyTorchTests) {
  const Schedule schedule = Must("dualpipev", 4, 10);
  EXPECT_EQ(Row(schedule, 1),
            "1F0 1F1 1F2 1F3 1F4 6F0 1F5 6F1 6I0 6W0 6F2 6I1 6W1 6F3 (1F6&6B2) (6F4&1B0) (1F7&6B3) (6F5&1B1) (1F8&6B4) (6F6&1B2) (1F9&6B5) "
            "(6F7&1B3) 6B6 (6F8&1B4) 6B7 (6F9&1B5) 6B8 1B6 6I9 1I7 6W9 1I8 1W7 1I9 1W8 1W9");
  EXPECT_EQ(Row(schedule, 3),
            "3F0 4F0 3F1 4F1 3F2 4F2 3F3 4F3 3F4 4B0 (4F4&3B0) (3F5&4B1) (4F5&3B1) (3F6&4B2) (4F6&3B2) (3F7&4B3) (4F7&3B3) (3F8&4B4) "
            "(4F8&3B4) (3F9&4B5) (4F9&3B5) 4B6 3B6 4B7 3B7 4I8 3I8 4I9 3I9 4W8 3W8 4W9 3W9");
}

// Written down from the rules that the generators' headers state, by hand.
TEST(GoldenTest, RowsFollowTheDefinitions) {
  // D = 4, N = 8: w = 3 2 1 0; W(i - r) after I(i).
  EXPECT_EQ(Row(Must("zb-h1", 4, 5), 0), "0F0 0F1 0F2 0F3 0I0 0W0 0F4 0I1 0W1 0I2 0W2 0I3 0W3 0I4 0W4");
  EXPECT_EQ(Row(Must("zb-h1", 4, 5), 2), "2F0 2F1 2I0 2F2 2I1 2F3 2I2 2W0 2F4 2I3 2W1 2I4 2W2 2W3 2W4");
  // D = 2: 3 and 1 forwards ahead.
  EXPECT_EQ(Row(Must("zb-h2", 2, 4), 0), "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3");
  EXPECT_EQ(Row(Must("zb-h2", 2, 4), 1), "1F0 1I0 1F1 1I1 1F2 1I2 1W0 1F3 1I3 1W1 1W2 1W3");
  // D = 2, v = 2: 4 and 2 forwards ahead; Megatron's order.
  EXPECT_EQ(Row(Must("interleaved", 2, 4), 0), "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3");
  EXPECT_EQ(Row(Must("interleaved", 2, 4), 1), "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3");
  EXPECT_EQ(Row(Must("interleaved", 2, 2), 1), "1F0 1F1 3F0 3F1 3B0 3B1 1B0 1B1");  // N = D: all forwards first
  EXPECT_EQ(Row(Must("gems", 3, 3), 2), "2F0 2B0 0F1 0B1 2F2 2B2");
  // D = 2, worker 1: 1 F0; 1 F1 F0; 1 F1 I1 W1; then in turn; 1 I0 I1; 1 I0 W0; the rest.
  EXPECT_EQ(Row(Must("zb-v", 2, 4), 1), "1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 1W3");
  EXPECT_EQ(Row(Must("zb-v", 2, 1), 1), "1F0 2F0 2I0 2W0 1I0 1W0");  // planned for 3, two left out
}

}  // namespace
}  // namespace lycia::schedule
