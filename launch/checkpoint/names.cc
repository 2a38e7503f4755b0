#include "launch/checkpoint/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "runtime/io/directory.h"

namespace lycia {
namespace {

// Takes digits from the front of `text`; nothing for fewer than `at_least` of them, or more than int64 holds.
std::optional<std::int64_t> TakeNumber(std::string_view* text, std::size_t at_least) {
  std::size_t digits = 0;
  while (digits < text->size() && absl::ascii_isdigit(static_cast<unsigned char>((*text)[digits]))) ++digits;
  std::int64_t number = 0;
  if (digits < at_least || !absl::SimpleAtoi(absl::string_view(text->data(), digits), &number)) return std::nullopt;
  text->remove_prefix(digits);
  return number;
}

bool Take(std::string_view* text, std::string_view prefix) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

template <typename Unwanted>
Status RemoveAttempts(const std::string& directory, Unwanted unwanted) {
  const StatusOr<std::vector<DirectoryEntry>> entries = ListDirectory(directory);
  if (absl::IsNotFound(entries.status())) return OkStatus();
  if (!entries.ok()) return entries.status();
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<Attempt> attempt = ParseAttemptDirectoryName(entry.name);
    if (attempt && entry.kind == EntryKind::kDirectory && unwanted(*attempt)) LYCIA_RETURN_IF_ERROR(RemoveTree(directory, entry.name));
  }
  return OkStatus();
}

}  // namespace

std::string StepDirectoryName(std::int64_t step) { return absl::StrFormat("step_%08d", step); }
std::string AttemptDirectoryName(const Attempt& attempt) {
  return absl::StrFormat("step_%08d.%s-%d.tmp", attempt.step, attempt.run, attempt.save);
}
std::string ShardFileName(int rank, int ranks) { return absl::StrFormat("shard-%05d-of-%05d.safetensors", rank, ranks); }
std::string ShardTableName(int rank) { return absl::StrFormat("shard-%05d.json", rank); }
std::string ShardFailureName(int rank) { return absl::StrFormat("shard-%05d.failed", rank); }

std::optional<std::int64_t> ParseStepDirectoryName(std::string_view name) {
  std::string_view rest = name;
  if (!Take(&rest, "step_")) return std::nullopt;
  const std::optional<std::int64_t> step = TakeNumber(&rest, 8);
  if (!step || StepDirectoryName(*step) != name) return std::nullopt;
  return step;
}

std::optional<Attempt> ParseAttemptDirectoryName(std::string_view name) {
  std::string_view rest = name;
  if (!Take(&rest, "step_")) return std::nullopt;
  const std::optional<std::int64_t> step = TakeNumber(&rest, 8);
  if (!step || !Take(&rest, ".")) return std::nullopt;
  Attempt attempt{*step, std::string(rest.substr(0, rest.find('-'))), 0};
  for (const char c : attempt.run) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_') return std::nullopt;
  }
  rest.remove_prefix(attempt.run.size());
  if (attempt.run.empty() || !Take(&rest, "-")) return std::nullopt;
  const std::optional<std::int64_t> save = TakeNumber(&rest, 1);
  if (!save) return std::nullopt;
  attempt.save = *save;
  if (AttemptDirectoryName(attempt) != name) return std::nullopt;
  return attempt;
}

bool IsCheckpointFileName(std::string_view name) {
  if (name == kManifestName) return true;
  std::string_view rest = name;
  if (!Take(&rest, "shard-")) return false;
  const std::optional<std::int64_t> rank = TakeNumber(&rest, 5);
  if (!rank) return false;
  if (rest == ".json" || rest == ".failed") return true;
  return Take(&rest, "-of-") && TakeNumber(&rest, 5) && rest == ".safetensors";
}

StatusOr<std::vector<std::int64_t>> ListCheckpointSteps(const std::string& directory) {
  std::vector<std::int64_t> steps;
  const StatusOr<std::vector<DirectoryEntry>> entries = ListDirectory(directory);
  if (absl::IsNotFound(entries.status())) return steps;
  if (!entries.ok()) return entries.status();
  for (const DirectoryEntry& entry : *entries) {
    const std::optional<std::int64_t> step = ParseStepDirectoryName(entry.name);
    if (step && entry.kind == EntryKind::kDirectory) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

Status RemoveStaleAttempts(const std::string& directory) {
  return RemoveAttempts(directory, [](const Attempt&) { return true; });
}

Status RemoveFailedAttempts(const std::string& directory, const Attempt& attempt) {
  return RemoveAttempts(directory, [&](const Attempt& other) { return other.run == attempt.run && other.save < attempt.save; });
}

}  // namespace lycia
