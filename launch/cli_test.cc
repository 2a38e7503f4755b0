// Command lines: what a wrong parser would let through (a mistyped flag, a swallowed value, a flag given twice) must be bad input.
#include "launch/cli.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/suggest.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CommandSpec Train() {
  return {.name = "train",
          .summary = "trains",
          .flags = {{.name = "config", .value = "FILE", .doc = "the configuration", .required = true},
                    {.name = "set", .value = "KEY=VALUE", .doc = "overrides a key", .repeated = true},
                    {.name = "ranks", .value = "N", .doc = "threads"},
                    {.name = "resume", .doc = "continue"}}};
}

StatusOr<Arguments> Parse(std::vector<std::string> words, const CommandSpec& command = Train()) { return ParseArguments(command, words); }

std::string Mistake(std::vector<std::string> words) {
  const Status status = Parse(std::move(words)).status();
  EXPECT_EQ(ExitCode(status), kExitBadInput) << status;
  return std::string(status.message());
}

TEST(Cli, ReadsBothSpellingsSwitchesAndRepeats) {
  const StatusOr<Arguments> arguments = Parse({"--config", "a.toml", "--set=x.y=1", "--resume", "--set", "x.z=-2", "--ranks=4"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_EQ(arguments->Get("config"), "a.toml");
  EXPECT_THAT(arguments->All("set"), ElementsAre("x.y=1", "x.z=-2"));
  EXPECT_TRUE(arguments->Has("resume"));
  EXPECT_EQ(*arguments->GetInteger("ranks", 1, 1, 64), 4);
  EXPECT_EQ(Parse({"--config=a"})->GetInteger("ranks", 7, 1, 64).value(), 7);
  EXPECT_EQ(Parse({"--config=a"})->Get("ranks", "none"), "none");
  EXPECT_EQ(Parse({"--config="})->Get("config", "other"), "");  // given, and empty
}

TEST(Cli, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Mistake({"--confg=a"}), "unknown flag --confg; did you mean 'config'?");
  EXPECT_THAT(Mistake({"--config=a", "--frobnicate"}), HasSubstr("unknown flag --frobnicate; see `lycia train --help`"));
  EXPECT_THAT(Mistake({"--config=a", "word"}), HasSubstr("unexpected 'word'"));
  EXPECT_THAT(Mistake({"--config=a", "-r"}), HasSubstr("unexpected '-r'"));
  EXPECT_THAT(Mistake({"--config=a", "--resume=yes"}), HasSubstr("takes no value"));
  EXPECT_THAT(Mistake({"--config"}), HasSubstr("--config=FILE"));
  EXPECT_THAT(Mistake({"--config", "--resume"}), HasSubstr("needs a value"));
  EXPECT_THAT(Mistake({"--config=a", "--config=b"}), HasSubstr("given twice"));
  EXPECT_THAT(Mistake({"--config=a", "--resume", "--resume"}), HasSubstr("given twice"));
  EXPECT_THAT(Mistake({"--resume"}), HasSubstr("--config=FILE is required"));
}

TEST(Cli, IntegersAreWholeAndInRange) {
  for (const char* wrong : {"0", "65", "4x", "", "4.0", "99999999999999999999", "-1"}) {
    const StatusOr<Arguments> arguments = Parse({"--config=a", std::string("--ranks=") + wrong});
    ASSERT_TRUE(arguments.ok());
    EXPECT_EQ(ExitCode(arguments->GetInteger("ranks", 1, 1, 64).status()), kExitBadInput) << wrong;
  }
}

TEST(Cli, PositionalWordsWhereTheyAreAccepted) {
  CommandSpec command = Train();
  command.positional = "FILE...";
  const StatusOr<Arguments> arguments = Parse({"a", "--config=c", "-", "b"}, command);
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->positional(), ElementsAre("a", "-", "b"));
}

TEST(Cli, HelpNamesEveryFlagAndRequiresNone) {
  const StatusOr<Arguments> arguments = Parse({"--help"});
  ASSERT_TRUE(arguments.ok() && arguments->help());
  const std::string help = CommandHelp(Train());
  for (const FlagSpec& flag : Train().flags) EXPECT_THAT(help, AllOf(HasSubstr("--" + flag.name), HasSubstr(flag.doc)));
}

Status RunIt(const Arguments& arguments) {
  if (arguments.Get("config") == "bad") return InvalidArgument("bad file");
  return arguments.Get("config") == "broken" ? absl::InternalError("broken") : OkStatus();
}

TEST(Cli, RunCommandReturnsTheExitCode) {
  const std::vector<Command> commands = {{Train(), RunIt}};
  const auto run = [&](std::vector<std::string> words) { return RunCommand(commands, words); };
  EXPECT_EQ(run({"train", "--config=good"}), kExitOk);
  EXPECT_EQ(run({"train", "--config=bad"}), kExitBadInput);
  EXPECT_EQ(run({"train", "--config=broken"}), kExitFailure);
  EXPECT_EQ(run({"train", "--help"}), kExitOk);
  EXPECT_EQ(run({"train"}), kExitBadInput);
  EXPECT_EQ(run({}), kExitBadInput);
  EXPECT_EQ(run({"--help"}), kExitOk);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run({"trian"}), kExitBadInput);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "lycia: unknown command 'trian'; did you mean 'train'?; `lycia --help` lists all\n");
}

TEST(Cli, ACommandOfTwoWordsStandsBesideThatOfOne) {
  const auto fails = [](const Arguments&) -> Status { return InvalidArgument("one"); };
  const auto works = [](const Arguments&) -> Status { return OkStatus(); };
  const std::vector<Command> commands = {{{.name = "show", .flags = {{.name = "a", .value = "A"}}}, fails},
                                         {{.name = "show all", .flags = {{.name = "b", .value = "B"}}}, works}};
  const auto run = [&](std::vector<std::string> words) { return RunCommand(commands, words); };
  EXPECT_EQ(run({"show", "all", "--b=1"}), kExitOk);
  EXPECT_EQ(run({"show", "--a=all"}), kExitBadInput);
  EXPECT_EQ(run({"show", "--a", "all"}), kExitBadInput);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run({"show", "all", "--a=1"}), kExitBadInput);
  EXPECT_EQ(run({"show", "al"}), kExitBadInput);
  EXPECT_EQ(run({"show", "--a=1"}), kExitBadInput);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "lycia show all: unknown flag --a; did you mean 'b'?\n"
            "lycia: unknown command 'show al'; did you mean 'show all'?; `lycia --help` lists all\nlycia show: one\n");
}

TEST(Suggest, DistanceCountsEditsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("sitting", "kitten"), 3);
  EXPECT_EQ(EditDistance("trian", "train"), 1);
  EXPECT_EQ(EditDistance("flaw", "lawn"), 2);
}

TEST(Suggest, NothingNearIsNoSuggestion) {
  const std::vector<std::string> words = {"train.lr", "train.steps", "model.layers"};
  EXPECT_EQ(Nearest("layer", words), "model.layers");
  EXPECT_EQ(Nearest("x", {}), "");
  EXPECT_EQ(DidYouMean("qqqqqqq", words), "");
}

}  // namespace
}  // namespace lycia
