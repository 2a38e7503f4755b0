#include "launch/cli.h"

#include <charconv>
#include <chrono>
#include <cstdio>
#include <thread>

#include "absl/strings/str_cat.h"
#include "launch/suggest.h"

namespace lycia {
namespace {

std::string Try(const CommandSpec& command) { return absl::StrCat("; see `lycia ", command.name, " --help`"); }

std::string Usage(const CommandSpec& command) {
  return absl::StrCat("lycia ", command.name, command.flags.empty() ? "" : " [--flags]", command.positional.empty() ? "" : " ",
                      command.positional);
}

std::string CommandsHelp(std::span<const Command> commands) {
  std::string text = "lycia: trains large models on many devices\n\nusage: lycia <command> [--flags]\n\ncommands:\n";
  for (const Command& command : commands) {
    char line[32];
    std::snprintf(line, sizeof line, "  %-16s ", command.spec.name.c_str());
    absl::StrAppend(&text, line, command.spec.summary, "\n");
  }
  return text +
         "\n`lycia <command> --help` explains one. Exit codes: 0 done, 1 failed while running, 2 bad input (nothing was started),\n"
         "85 stopped by a signal after a checkpoint was written (start again with --resume).\n";
}

}  // namespace

int ExitCode(const Status& status) {
  if (status.ok()) return kExitOk;
  if (absl::IsInvalidArgument(status)) return kExitBadInput;
  return absl::IsCancelled(status) ? kExitRequeue : kExitFailure;
}

std::string Arguments::Get(const std::string& flag, std::string_view otherwise) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? std::string(otherwise) : found->second.back();
}

std::vector<std::string> Arguments::All(const std::string& flag) const {
  const auto found = values_.find(flag);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

StatusOr<std::int64_t> Arguments::GetInteger(const std::string& flag, std::int64_t otherwise, std::int64_t least, std::int64_t most) const {
  if (!Has(flag)) return otherwise;
  const std::string text = Get(flag);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return InvalidArgument("--", flag, "=", text, " must be an integer from ", least, " to ", most);
  }
  return value;
}

StatusOr<Arguments> ParseArguments(const CommandSpec& command, std::span<const std::string> words) {
  Arguments arguments;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help" || word == "-h") {
      arguments.help_ = true;
      continue;
    }
    if (word.size() < 2 || word.compare(0, 2, "--") != 0) {
      if (command.positional.empty()) return InvalidArgument("unexpected '", word, "'", Try(command));
      arguments.positional_.push_back(word);
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const FlagSpec* flag = nullptr;
    std::vector<std::string> names = {"help"};
    for (const FlagSpec& candidate : command.flags) {
      names.push_back(candidate.name);
      if (candidate.name == name) flag = &candidate;
    }
    if (flag == nullptr) {
      const std::string nearest = DidYouMean(name, names);
      return InvalidArgument("unknown flag --", name, nearest, nearest.empty() ? Try(command) : "");
    }
    std::string value;
    if (flag->value.empty()) {
      if (equals != std::string::npos) return InvalidArgument("--", name, " takes no value, but got '", word.substr(equals + 1), "'");
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (i + 1 < words.size() && words[i + 1].compare(0, 2, "--") != 0) {
      value = words[++i];
    } else {
      return InvalidArgument("--", name, " needs a value: --", name, "=", flag->value);
    }
    std::vector<std::string>& values = arguments.values_[name];
    if (!values.empty() && !flag->repeated) return InvalidArgument("--", name, " is given twice: '", values[0], "' and '", value, "'");
    values.push_back(value);
  }
  for (const FlagSpec& flag : command.flags) {
    if (flag.required && !arguments.help_ && !arguments.Has(flag.name)) {
      return InvalidArgument("--", flag.name, "=", flag.value, " is required: ", flag.doc);
    }
  }
  return arguments;
}

std::string CommandHelp(const CommandSpec& command) {
  std::string text = absl::StrCat("lycia ", command.name, ": ", command.summary, "\n\nusage: ", Usage(command), "\n");
  if (!command.flags.empty()) text += "\nflags:\n";
  for (const FlagSpec& flag : command.flags) {
    const std::string left = absl::StrCat("--", flag.name, flag.value.empty() ? "" : "=", flag.value);
    char line[96];
    std::snprintf(line, sizeof line, "  %-28s ", left.c_str());
    absl::StrAppend(&text, line, flag.doc, flag.required ? " (required)" : "", flag.repeated ? " (may be repeated)" : "", "\n");
  }
  if (!command.details.empty()) absl::StrAppend(&text, "\n", command.details);
  if (text.back() != '\n') text += '\n';
  return text;
}

namespace {

constexpr std::chrono::milliseconds kAfterRank0{500};

// How many of the words name the command: two where a command is called so, or where none is and the second word is a mistyped one.
std::size_t NameWords(std::span<const Command> commands, std::span<const std::string> words) {
  if (words.size() < 2) return 1;
  const std::string two = StrCat(words[0], " ", words[1]);
  for (const Command& command : commands) {
    if (command.spec.name == two) return 2;
  }
  bool takes_words = true, has_second = false;
  for (const Command& command : commands) {
    if (command.spec.name == words[0]) takes_words = !command.spec.positional.empty();
    has_second = has_second || command.spec.name.rfind(words[0] + " ", 0) == 0;
  }
  return has_second && !takes_words && words[1].rfind("-", 0) != 0 ? 2 : 1;
}

// Tells a mistake in the command line once in a job.
int BadCommandLine(const std::string& line, int rank) {
  if (rank == 0) {
    std::fprintf(stderr, "%s\n", line.c_str());
  } else {
    std::this_thread::sleep_for(kAfterRank0);
  }
  return kExitBadInput;
}

}  // namespace

int RunCommand(std::span<const Command> commands, std::span<const std::string> words, int rank) {
  if (words.empty()) return BadCommandLine(CommandsHelp(commands), rank);
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    if (rank == 0) std::fputs(CommandsHelp(commands).c_str(), stdout);
    return kExitOk;
  }
  const std::size_t name_words = NameWords(commands, words);
  const std::string name = name_words == 2 ? StrCat(words[0], " ", words[1]) : words[0];
  std::vector<std::string> names;
  for (const Command& command : commands) {
    names.push_back(command.spec.name);
    if (command.spec.name != name) continue;
    const StatusOr<Arguments> arguments = ParseArguments(command.spec, words.subspan(name_words));
    if (!arguments.ok()) return BadCommandLine(StrCat("lycia ", name, ": ", arguments.status().message()), rank);
    if (arguments->help()) {
      if (rank == 0) std::fputs(CommandHelp(command.spec).c_str(), stdout);
      return kExitOk;
    }
    const Status status = command.run(*arguments);
    std::string message(status.message());
    while (!message.empty() && message.back() == '\n') message.pop_back();  // of programs with the place marked
    if (!message.empty()) std::fprintf(stderr, "lycia %s: %s\n", name.c_str(), message.c_str());
    return ExitCode(status);
  }
  return BadCommandLine(StrCat("lycia: unknown command '", name, "'", DidYouMean(name, names), "; `lycia --help` lists all"), rank);
}

}  // namespace lycia
