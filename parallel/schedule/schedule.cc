#include "parallel/schedule/schedule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lycia::schedule {

bool IsCompute(Op op) { return op <= Op::kBackwardWeight; }

bool IsBackward(Op op) { return op == Op::kBackward || op == Op::kBackwardInput; }

char OpLetter(Op op) {
  switch (op) {
    case Op::kForward:
      return 'F';
    case Op::kBackward:
      return 'B';
    case Op::kBackwardInput:
      return 'I';
    case Op::kBackwardWeight:
      return 'W';
    default:
      return '?';
  }
}

std::string ToString(const Instruction& instruction) {
  const char* word = "";
  switch (instruction.op) {
    case Op::kForward:
      word = "F";
      break;
    case Op::kBackward:
      word = "B";
      break;
    case Op::kBackwardInput:
      word = "I";
      break;
    case Op::kBackwardWeight:
      word = "W";
      break;
    case Op::kLoad:
      word = "LOAD";
      break;
    case Op::kSendActivation:
      word = "SENDF";
      break;
    case Op::kReceiveActivation:
      word = "RECVF";
      break;
    case Op::kSendGradient:
      word = "SENDB";
      break;
    case Op::kReceiveGradient:
      word = "RECVB";
      break;
    case Op::kGradientSync:
      return absl::StrCat("SYNC#", instruction.sync_set);
    case Op::kUpdate:
      return instruction.sync_set < 0 ? "UPDATE" : absl::StrCat("UPDATE#", instruction.sync_set);
  }
  std::string text = absl::StrCat("p", instruction.pipe, ".", instruction.stage, word, instruction.micro_batch);
  if (instruction.parts > 1) absl::StrAppend(&text, "/", static_cast<int>(instruction.part));
  return text;
}

std::string ToString(const Schedule& schedule, const Instruction& instruction) {
  const int set = instruction.sync_set;
  const bool of_set = instruction.op == Op::kGradientSync || instruction.op == Op::kUpdate;
  if (!of_set || set < 0 || set >= static_cast<int>(schedule.sync_sets.size())) return ToString(instruction);
  return absl::StrCat(instruction.op == Op::kUpdate ? "UPDATE{" : "SYNC{", absl::StrJoin(schedule.sync_sets[set].stages, ","), "}");
}

bool IsUpPipe(const ScheduleShape& shape, int pipe) { return shape.pipes > 1 && pipe >= shape.pipes / 2; }

bool HasBackward(const Schedule& schedule) {
  for (const auto& program : schedule.program) {
    for (const Instruction& instruction : program) {
      if (IsBackward(instruction.op)) return true;
    }
  }
  return false;
}

int MaxParts(const Schedule& schedule) {
  int parts = 1;
  for (const auto& program : schedule.program) {
    for (const Instruction& instruction : program) parts = std::max<int>(parts, instruction.parts);
  }
  return parts;
}

std::vector<int> WorkersOfStage(const Schedule& schedule, int stage) { return WorkersOfSyncSet(schedule, SyncSet{{stage}}); }

std::vector<int> WorkersOfSyncSet(const Schedule& schedule, const SyncSet& set) {
  std::vector<int> workers;
  for (const auto& worker_of : schedule.worker_of) {
    for (const int stage : set.stages) workers.push_back(worker_of[stage]);
  }
  std::sort(workers.begin(), workers.end());
  workers.erase(std::unique(workers.begin(), workers.end()), workers.end());
  return workers;
}

}  // namespace lycia::schedule
