#include "parallel/schedule/csv.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace lycia::schedule {
namespace {

constexpr char kOverlap[] = "OVERLAP_F_B";

}  // namespace

std::string RenderCsv(const Schedule& schedule) {
  std::string text;
  for (const auto& program : schedule.program) {
    bool first = true, in_block = false;
    for (const Instruction& instruction : program) {
      if (!IsCompute(instruction.op)) continue;
      if (!in_block) absl::StrAppend(&text, first ? "" : ",", instruction.paired_with_next ? "(" : "");
      absl::StrAppend(&text, in_block ? ";" : "", ToString(instruction));
      if (in_block && !instruction.paired_with_next) absl::StrAppend(&text, ")", kOverlap);
      in_block = instruction.paired_with_next;
      first = false;
    }
    text += "\n";
  }
  return text;
}

namespace {

constexpr int kMaxNumber = 1 << 20;
constexpr int kMaxPart = 254;

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

std::optional<Op> OpOf(char letter) {
  for (const Op op : {Op::kForward, Op::kBackward, Op::kBackwardInput, Op::kBackwardWeight}) {
    if (OpLetter(op) == letter) return op;
  }
  return std::nullopt;
}

std::optional<Instruction> ParseInstruction(absl::string_view text) {
  Instruction instruction;
  if (TakeChar(text, 'p')) {
    const auto pipe = TakeNumber(text);
    if (!pipe || !TakeChar(text, '.')) return std::nullopt;
    instruction.pipe = *pipe;
  }
  const auto stage = TakeNumber(text);
  const auto op = text.empty() ? std::nullopt : OpOf(text[0]);
  if (!stage || !op) return std::nullopt;
  text.remove_prefix(1);
  const auto micro_batch = TakeNumber(text);
  if (!micro_batch) return std::nullopt;
  instruction.op = *op;
  instruction.stage = *stage;
  instruction.micro_batch = *micro_batch;
  if (TakeChar(text, '/')) {
    const auto part = TakeNumber(text);
    if (!part || *part > kMaxPart) return std::nullopt;
    instruction.part = static_cast<std::uint8_t>(*part);
    instruction.parts = 2;  // at least; the highest part seen decides
  }
  if (!text.empty()) return std::nullopt;
  return instruction;
}

// The instructions of a cell: one, or those of a paired block; none where it has neither form.
std::vector<Instruction> ParseCell(absl::string_view text) {
  std::vector<Instruction> instructions;
  const bool block = TakeChar(text, '(');
  if (block && !(absl::ConsumeSuffix(&text, kOverlap) && absl::ConsumeSuffix(&text, ")"))) return {};
  for (const absl::string_view member : absl::StrSplit(text, ';')) {
    const auto instruction = ParseInstruction(block ? absl::StripAsciiWhitespace(member) : member);
    if (!instruction) return {};
    if (!instructions.empty()) instructions.back().paired_with_next = true;
    instructions.push_back(*instruction);
  }
  if (block != (instructions.size() > 1)) return {};
  return instructions;
}

std::string Grammar(absl::string_view cell) {
  for (const char* word : {"SEND", "RECV", "SHARD", "REDUCE"}) {  // torch's compute_comms
    if (cell.find(word) != absl::string_view::npos) return "write compute only; messages and gradient sums are added to it";
  }
  return "not of the form p<pipe>.<stage><F|B|I|W><micro-batch>, such as p0.2F1, 2F1, p1.0B3/1 or (p0.0F5;p1.7B3)OVERLAP_F_B";
}

// Parts of a micro-batch in one direction: one more than the highest part seen on any stage, at least two where a part was written.
void SetParts(Schedule& schedule) {
  std::map<std::pair<int, bool>, std::uint8_t> parts;  // (micro-batch, forward)
  for (const auto& program : schedule.program) {
    for (const Instruction& instruction : program) {
      if (instruction.parts == 1) continue;
      auto& most = parts[{instruction.micro_batch, instruction.op == Op::kForward}];
      most = std::max<std::uint8_t>({most, 2, static_cast<std::uint8_t>(instruction.part + 1)});
    }
  }
  for (auto& program : schedule.program) {
    for (Instruction& instruction : program) {
      if (instruction.parts > 1) instruction.parts = parts[{instruction.micro_batch, instruction.op == Op::kForward}];
    }
  }
}

// What the cells say so far about sizes and placement.
struct Placement {
  struct Home {
    int worker;
    std::string place;  // "line 3, cell 1"
  };
  std::map<std::pair<int, int>, Home> worker_of;       // (pipe, stage)
  std::map<int, std::pair<int, std::string>> pipe_of;  // micro-batch -> pipe, where it was seen first
  int stages = 0, pipes = 0, micro_batches = 0;

  // What contradicts an earlier cell, or "".
  std::string Add(const Instruction& instruction, int worker, const std::string& place) {
    stages = std::max(stages, instruction.stage + 1);
    pipes = std::max(pipes, instruction.pipe + 1);
    micro_batches = std::max(micro_batches, instruction.micro_batch + 1);
    const Home& home = worker_of.emplace(std::pair(instruction.pipe, instruction.stage), Home{worker, place}).first->second;
    if (home.worker != worker) {
      return absl::StrCat("stage ", instruction.stage, " of pipe ", instruction.pipe, " is on worker ", home.worker, " (", home.place,
                          "); a stage has one worker");
    }
    const auto& [pipe, seen] = pipe_of.emplace(instruction.micro_batch, std::pair(instruction.pipe, place)).first->second;
    if (pipe == instruction.pipe) return "";
    return absl::StrCat("micro-batch ", instruction.micro_batch, " is in pipe ", pipe, " (", seen, "); it belongs to one");
  }

  Status Check(int workers) const {
    // As many as the highest number says, or one is missing: this also bounds the tables by the length of the text.
    for (int m = 0; m < micro_batches; ++m) {
      if (pipe_of.count(m) == 0) return InvalidArgument("micro-batch ", m, " is missing: they are numbered from 0 to ", micro_batches - 1);
    }
    for (int pipe = 0; pipe < pipes; ++pipe) {
      for (int stage = 0; stage < stages; ++stage) {
        if (worker_of.count({pipe, stage}) > 0) continue;
        return InvalidArgument("stage ", stage, " of pipe ", pipe, " is missing: pipes are numbered from 0 to ", pipes - 1,
                               ", and each has the stages 0 to ", stages - 1);
      }
    }
    if (stages % workers == 0) return OkStatus();
    return InvalidArgument(stages, " stages do not divide among ", workers, " workers (lines): a worker's costs are shared evenly by ",
                           "stages / workers stages, wherever they are; cut the model into ", (stages / workers + 1) * workers, " stages");
  }
};

}  // namespace

StatusOr<Schedule> ParseCsv(std::string_view text, std::string_view name) {
  Schedule schedule;
  schedule.name = std::string(name);
  absl::string_view content(text.data(), text.size());
  absl::ConsumePrefix(&content, "\xef\xbb\xbf");  // a spreadsheet's byte order mark
  std::vector<absl::string_view> lines = absl::StrSplit(content, '\n');
  while (!lines.empty() && absl::StripAsciiWhitespace(lines.back()).empty()) lines.pop_back();
  Placement placement;
  for (std::size_t line = 0; line < lines.size(); ++line) {
    if (absl::StripAsciiWhitespace(lines[line]).substr(0, 1) == "#") continue;
    const int worker = static_cast<int>(schedule.program.size());
    schedule.program.emplace_back();
    const std::vector<absl::string_view> cells = absl::StrSplit(lines[line], ',');
    for (std::size_t column = 0; column < cells.size(); ++column) {
      const absl::string_view cell = absl::StripAsciiWhitespace(cells[column]);
      if (cell.empty()) continue;
      const std::string place = absl::StrCat("line ", line + 1, ", cell ", column + 1);
      const std::vector<Instruction> instructions = ParseCell(cell);
      if (instructions.empty()) return InvalidArgument(place, " \"", cell, "\": ", Grammar(cell));
      for (const Instruction& instruction : instructions) {
        const std::string why = placement.Add(instruction, worker, place);
        if (!why.empty()) return InvalidArgument(place, " \"", cell, "\": ", why);
        schedule.program.back().push_back(instruction);
      }
    }
    if (schedule.program.back().empty()) {
      return InvalidArgument("line ", line + 1, " has no cell: each line is a worker, and a worker has at least one stage");
    }
  }
  const int workers = static_cast<int>(schedule.program.size());
  if (workers == 0) return InvalidArgument("the schedule is empty: no line has a cell");
  LYCIA_RETURN_IF_ERROR(placement.Check(workers));
  schedule.shape = {.workers = workers,
                    .stages = placement.stages,
                    .chunks = placement.stages / workers,
                    .pipes = placement.pipes,
                    .micro_batches = placement.micro_batches};
  schedule.worker_of.assign(placement.pipes, std::vector<int>(placement.stages));
  for (const auto& [key, home] : placement.worker_of) schedule.worker_of[key.first][key.second] = home.worker;
  for (const auto& [micro_batch, pipe] : placement.pipe_of) schedule.pipe_of_micro_batch.push_back(pipe.first);
  SetParts(schedule);
  return schedule;
}

}  // namespace lycia::schedule
