// The command line: `lycia <command> --flag=value --flag value --switch`. A command says its flags as data; parsing, --help and
// "did you mean" follow from it. A command's name is one word, or two: "schedule compare" stands beside "schedule".
#ifndef LYCIA_LAUNCH_CLI_H_
#define LYCIA_LAUNCH_CLI_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

// Exit codes of every command (docs: `lycia --help`).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;   // something failed while running
inline constexpr int kExitBadInput = 2;  // flags, configuration, files or sizes that the user gave
inline constexpr int kExitRequeue = 85;  // stopped by a signal after a checkpoint was written: start again with --resume
// InvalidArgument is bad input, Cancelled a stop by a signal, any other error a failure.
int ExitCode(const Status& status);

struct FlagSpec {
  std::string name;   // without dashes
  std::string value;  // what its value is called in help ("FILE"); "": a switch
  std::string doc;
  bool repeated = false;  // may be given several times
  bool required = false;
};

struct CommandSpec {
  std::string name;     // "train", "schedule compare"
  std::string summary;  // one line
  std::vector<FlagSpec> flags;
  std::string positional = {};  // what words without dashes are ("FILE..."); "": none are accepted
  std::string details = {};     // more text for --help
};

// What was given on the command line.
class Arguments {
 public:
  bool help() const { return help_; }
  bool Has(const std::string& flag) const { return values_.count(flag) != 0; }
  std::string Get(const std::string& flag, std::string_view otherwise = "") const;  // the last one given
  std::vector<std::string> All(const std::string& flag) const;
  // InvalidArgument when the value is not an integer in [least, most].
  StatusOr<std::int64_t> GetInteger(const std::string& flag, std::int64_t otherwise, std::int64_t least, std::int64_t most) const;
  const std::vector<std::string>& positional() const { return positional_; }

 private:
  friend StatusOr<Arguments> ParseArguments(const CommandSpec& command, std::span<const std::string> words);
  bool help_ = false;
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> positional_;
};

// `words`: what follows the command's name. InvalidArgument for an unknown flag (with the nearest valid one), a missing or unwanted value,
// a repeated flag that is not, a missing required flag, and words where none are accepted. With --help nothing is required.
StatusOr<Arguments> ParseArguments(const CommandSpec& command, std::span<const std::string> words);

std::string CommandHelp(const CommandSpec& command);

// One row of main's table.
struct Command {
  CommandSpec spec;
  Status (*run)(const Arguments& arguments) = nullptr;
};

// The command line after the program's name: runs the command and returns the exit code. Prints help on stdout; an error as one line
// "lycia <command>: message" on stderr, or nothing where the message is empty (another rank prints it).
// rank: of this process among those that a launcher started. Mistakes in the command line are the same on all ranks: rank 0 tells them, and
// the others end a moment later, because a launcher ends all ranks with the first that fails.
int RunCommand(std::span<const Command> commands, std::span<const std::string> words, int rank = 0);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CLI_H_
