// A schedule file is a user's input: whatever is wrong with it is bad input, with the path, and nothing is started.
#include "launch/schedule_file.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/generators.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Written(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

TEST(ReadScheduleFile, ReadsAndProves) {
  const std::string good = Written("mine.csv", "0F0,0B0\n1F0,1B0\n");
  const StatusOr<schedule::Schedule> schedule = ReadScheduleFile(good);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->name, "mine");
  EXPECT_EQ(schedule->shape.workers, 2);

  const std::string bad = Written("bad.csv", "0F0,0B0\n1F0\n");
  const Status status = ReadScheduleFile(bad).status();
  EXPECT_EQ(ExitCode(status), kExitBadInput);
  EXPECT_THAT(std::string(status.message()), AllOf(StartsWith(bad + ": "), HasSubstr("lacks B"), HasSubstr(">>end<<")));
  EXPECT_THAT(std::string(ReadScheduleFile(Written("worse.csv", "0F0,\n?\n")).status().message()), HasSubstr("worse.csv: line 2, cell 1"));
  for (const Status& none : {ReadScheduleFile(testing::TempDir() + "/none.csv").status(), ReadScheduleText(testing::TempDir()).status()}) {
    EXPECT_EQ(none.code(), absl::StatusCode::kInvalidArgument) << none;  // exit code 2
  }
}

// What the order needs of the channels is found, not written.
TEST(ReadScheduleFile, FindsTheCredits) {
  for (const char* name : {"chimera", "chimera-doubling", "dualpipe"}) {
    const StatusOr<schedule::Schedule> made = schedule::Generate(name, {.workers = 4, .micro_batches = 8});
    ASSERT_TRUE(made.ok()) << made.status();
    const StatusOr<schedule::Schedule> read = ReadScheduleFile(Written("made.csv", schedule::RenderCsv(*made)));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->program, made->program);
    EXPECT_EQ(read->credits, made->credits) << name;
  }
}

}  // namespace
}  // namespace lycia
