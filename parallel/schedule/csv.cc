#include "parallel/schedule/csv.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace lycia::schedule {

std::string RenderCsv(const Schedule& schedule) {
  std::string text;
  for (const auto& program : schedule.program) {
    const char* separator = "";
    for (const Instruction& instruction : program) {
      if (!IsCompute(instruction.op)) continue;
      absl::StrAppend(&text, separator, ToString(instruction));
      separator = ",";
    }
    text += "\n";
  }
  return text;
}

namespace {

constexpr int kMaxNumber = 1 << 20;

// Removes a number of 0..kMaxNumber from the front.
std::optional<int> TakeNumber(absl::string_view& text) {
  std::size_t digits = 0;
  int value = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits]) && value <= kMaxNumber) value = value * 10 + (text[digits++] - '0');
  if (digits == 0 || value > kMaxNumber) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool TakeChar(absl::string_view& text, char wanted) {
  if (text.empty() || text[0] != wanted) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<Instruction> ParseCell(absl::string_view text) {
  Instruction instruction;
  if (!TakeChar(text, 'p')) return std::nullopt;
  const auto pipe = TakeNumber(text);
  if (!pipe || !TakeChar(text, '.')) return std::nullopt;
  const auto stage = TakeNumber(text);
  if (!stage || text.empty()) return std::nullopt;
  switch (text[0]) {
    case 'F': instruction.op = Op::kForward; break;
    case 'B': instruction.op = Op::kBackward; break;
    case 'I': instruction.op = Op::kBackwardInput; break;
    case 'W': instruction.op = Op::kBackwardWeight; break;
    default: return std::nullopt;
  }
  text.remove_prefix(1);
  const auto micro_batch = TakeNumber(text);
  if (!micro_batch) return std::nullopt;
  instruction.pipe = *pipe;
  instruction.stage = *stage;
  instruction.micro_batch = *micro_batch;
  if (TakeChar(text, '/')) {
    const auto part = TakeNumber(text);
    if (!part || *part > 254 || instruction.op == Op::kForward) return std::nullopt;
    instruction.part = static_cast<std::uint8_t>(*part);
    instruction.parts = 2;  // at least; the highest part seen decides
  }
  if (!text.empty()) return std::nullopt;
  return instruction;
}

// Sets table[key] = value unless another value is there; false in that case.
bool Agree(std::map<std::pair<int, int>, int>& table, int a, int b, int value) {
  return table.emplace(std::pair{a, b}, value).first->second == value;
}

// Parts of each (stage, micro-batch): one more than the highest part seen, at least two where a part was written.
void SetParts(Schedule& schedule) {
  std::map<std::pair<int, int>, std::uint8_t> parts;
  for (const auto& program : schedule.program) {
    for (const Instruction& instruction : program) {
      if (instruction.parts == 1) continue;
      auto& most = parts[{instruction.stage, instruction.micro_batch}];
      most = std::max<std::uint8_t>({most, 2, static_cast<std::uint8_t>(instruction.part + 1)});
    }
  }
  for (auto& program : schedule.program) {
    for (Instruction& instruction : program) {
      if (instruction.parts > 1) instruction.parts = parts[{instruction.stage, instruction.micro_batch}];
    }
  }
}

}  // namespace

StatusOr<Schedule> ParseCsv(std::string_view text) {
  Schedule schedule;
  schedule.name = "csv";
  std::map<std::pair<int, int>, int> worker_of;  // (pipe, stage)
  std::map<std::pair<int, int>, int> pipe_of;    // (micro-batch, 0)
  std::vector<absl::string_view> lines = absl::StrSplit(absl::string_view(text.data(), text.size()), '\n');
  while (!lines.empty() && absl::StripAsciiWhitespace(lines.back()).empty()) lines.pop_back();
  if (lines.empty()) return InvalidArgument("the schedule is empty: no line has a cell");
  int stages = 1, pipes = 1, micro_batches = 0;
  for (int worker = 0; worker < static_cast<int>(lines.size()); ++worker) {
    schedule.program.emplace_back();
    const std::vector<absl::string_view> cells = absl::StrSplit(lines[worker], ',');
    for (std::size_t column = 0; column < cells.size(); ++column) {
      const absl::string_view cell = absl::StripAsciiWhitespace(cells[column]);
      if (cell.empty()) continue;
      const auto fail = [&](const auto&... parts) {
        return InvalidArgument("line ", worker + 1, ", cell ", column + 1, " \"", cell, "\": ", parts...);
      };
      const auto instruction = ParseCell(cell);
      if (!instruction) return fail("not of the form p<pipe>.<stage><F|B|I|W><micro-batch>, such as p0.2F1 or p1.0B3/1");
      const auto [op, pipe, stage, micro_batch] =
          std::tuple(instruction->op, instruction->pipe, instruction->stage, instruction->micro_batch);
      if (!Agree(worker_of, pipe, stage, worker)) return fail("the stage is on worker ", worker_of[{pipe, stage}], " too");
      if (!Agree(pipe_of, micro_batch, 0, pipe)) return fail("the micro-batch is in pipe ", pipe_of[{micro_batch, 0}], " too");
      stages = std::max(stages, stage + 1);
      pipes = std::max(pipes, pipe + 1);
      micro_batches = std::max(micro_batches, micro_batch + 1);
      schedule.program.back().push_back(*instruction);
    }
  }
  const int workers = static_cast<int>(lines.size());
  if (stages % workers != 0) return InvalidArgument(stages, " stages do not divide among ", workers, " workers (lines)");
  // As many cells as numbers, or some number is missing: this also bounds the tables below by the text.
  if (static_cast<std::int64_t>(worker_of.size()) != std::int64_t{pipes} * stages)
    return InvalidArgument("not every one of ", pipes, " pipes has all of ", stages, " stages");
  if (static_cast<int>(pipe_of.size()) != micro_batches) return InvalidArgument("micro-batches are missing below ", micro_batches - 1);
  schedule.shape = {.workers = workers, .stages = stages, .chunks = stages / workers, .pipes = pipes, .micro_batches = micro_batches};
  schedule.worker_of.assign(pipes, std::vector<int>(stages));
  for (const auto& [key, worker] : worker_of) schedule.worker_of[key.first][key.second] = worker;
  for (const auto& [key, pipe] : pipe_of) schedule.pipe_of_micro_batch.push_back(pipe);
  SetParts(schedule);
  return schedule;
}

}  // namespace lycia::schedule
