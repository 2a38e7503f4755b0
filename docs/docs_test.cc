// schedules.md must not go stale: every picture that draw.sh draws and every embedded output of `lycia schedule` is made anew and compared.
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "parallel/schedule/command.h"
#include "parallel/schedule/compare.h"
#include "parallel/schedule/generators.h"

namespace lycia::schedule {
namespace {

std::string Content(const std::string& path) {
  std::ifstream stream(path);
  EXPECT_TRUE(stream.good()) << path;
  std::stringstream content;
  content << stream.rdbuf();
  return content.str();
}

template <typename Args>
void Fill(const std::map<std::string, std::string>& flags, Args& args, std::map<std::string, std::string*> words,
          std::map<std::string, int*> numbers) {
  words.insert({{"cost", &args.cost},
                {"latency", &args.latency},
                {"transmit", &args.transmit},
                {"sync", &args.sync},
                {"update", &args.update},
                {"gradient-sync", &args.gradient_sync},
                {"from", &args.from},
                {"format", &args.format}});
  numbers.insert({{"stages", &args.stages}, {"max-activations", &args.max_activations}});
  for (const auto& [name, value] : flags) {
    if (words.count(name) != 0) {
      *words[name] = value;
    } else if (numbers.count(name) != 0) {
      *numbers[name] = std::stoi(value);
    } else {
      ADD_FAILURE() << "no flag --" << name;
    }
  }
  if (!args.from.empty()) args.csv = Content(args.from);
}

// What `lycia schedule <words>` prints, the error too.
std::string Output(const std::string& words) {
  std::map<std::string, std::string> flags;
  bool compare = false;
  for (const auto word : absl::StrSplit(words, ' ', absl::SkipEmpty())) {
    compare = compare || word == "compare";
    if (word == "compare") continue;
    const std::pair<std::string, std::string> flag = absl::StrSplit(word, absl::MaxSplits('=', 1));
    EXPECT_TRUE(absl::StartsWith(flag.first, "--")) << words;
    flags.emplace(flag.first.substr(2), flag.second);
  }
  StatusOr<std::string> output = "";
  if (compare) {
    CompareArgs args;
    Fill(flags, args, {{"micro-batches", &args.micro_batches}, {"schedules", &args.schedules}}, {});
    output = CompareCommand(args);
  } else {
    ScheduleCommandArgs args;
    Fill(flags, args, {{"name", &args.name}}, {{"micro-batches", &args.micro_batches}, {"pipes", &args.pipes}, {"chunks", &args.chunks}});
    output = ScheduleCommand(args);
  }
  if (output.ok()) return *output;
  const auto message = absl::StripTrailingAsciiWhitespace(output.status().message());
  return absl::StrCat("lycia schedule", compare ? " compare: " : ": ", message, "\n");
}

TEST(DocsTest, PicturesAreWhatTheProgramDraws) {
  const std::string page = Content("docs/schedules.md");
  std::set<std::string> drawn;
  const std::string script = Content("docs/schedules/draw.sh");
  for (const absl::string_view line : absl::StrSplit(script, '\n')) {
    if (!absl::StartsWith(line, "draw ")) continue;
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    EXPECT_EQ(Content(absl::StrCat("docs/schedules/", words[1], ".svg")), Output(words[2] + " --format=svg"))
        << "docs/schedules/" << words[1] << ".svg is stale; run docs/schedules/draw.sh";
    EXPECT_TRUE(absl::StrContains(page, absl::StrCat("(schedules/", words[1], ".svg)"))) << words[1] << ".svg is not shown";
    drawn.insert(words[1]);
  }
  for (const Generator& generator : Generators()) {
    if (generator.generate == Auto) continue;
    EXPECT_EQ(drawn.count(generator.name), 1u) << generator.name << " has no picture";
  }
}

// A block that starts with "$ lycia schedule ..." goes on with its output.
TEST(DocsTest, EmbeddedOutputIsWhatTheProgramPrints) {
  int checked = 0;
  constexpr char kPrompt[] = "```console\n$ lycia schedule ";
  const std::string page = Content("docs/schedules.md");
  for (std::size_t at = page.find(kPrompt); at != std::string::npos; at = page.find(kPrompt, at + 1)) {
    const std::size_t words = at + sizeof(kPrompt) - 1, line_end = page.find('\n', words), end = page.find("```", line_end);
    ASSERT_NE(end, std::string::npos);
    EXPECT_EQ(page.substr(line_end + 1, end - line_end - 1), Output(page.substr(words, line_end - words)))
        << page.substr(words, line_end - words) << " prints something else; run docs/schedules/draw.sh";
    ++checked;
  }
  EXPECT_GE(checked, 4);
}

}  // namespace
}  // namespace lycia::schedule
