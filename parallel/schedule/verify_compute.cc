// Verify: every micro-batch passes every stage once, in an order that can run; see verify.h.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/activations.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// What happened to one micro-batch on one stage so far, in bits of one byte a part.
class Progress {
 public:
  Progress(const ScheduleShape& shape, int max_parts)
      : max_parts_(max_parts), parts_(NumActivations(shape)), done_(NumActivations(shape) * max_parts, 0) {}

  // The rule that `instruction` breaks, or "".
  std::string Advance(std::size_t activation, const Instruction& instruction) {
    if (instruction.parts < 1 || instruction.part >= instruction.parts) return "the part is not one of its parts";
    const bool forward = instruction.op == Op::kForward;
    std::uint8_t& parts = forward ? parts_[activation].forward : parts_[activation].backward;
    if (parts == 0) parts = instruction.parts;
    if (parts != instruction.parts) {
      return absl::StrCat("earlier ", forward ? "forwards" : "backwards", " of this micro-batch have ", static_cast<int>(parts), " parts");
    }
    std::uint8_t& done = done_[activation * max_parts_ + instruction.part];
    if (!forward) {
      const std::string why = BackwardMistake(activation, instruction, done);
      if (!why.empty()) return why;
    }
    const std::uint8_t bit = Bit(instruction.op);
    if (forward && (done & bit) != 0) return "second forward of this micro-batch on this stage";
    done |= bit;
    return "";
  }

  // What the activation still lacks, or "".
  std::string Missing(std::size_t activation, bool training) const {
    const Parts& parts = parts_[activation];
    const auto lacks = [&](int part, Op op) { return (done_[activation * max_parts_ + part] & Bit(op)) == 0; };
    if (parts.forward == 0) return "F";
    for (int part = 0; part < parts.forward; ++part) {
      if (lacks(part, Op::kForward)) return absl::StrCat("F of part ", part);
    }
    if (!training) return parts.backward > 0 ? "an end without backward (this is an evaluation) instead of B" : "";
    if (parts.backward == 0) return "B";
    for (int part = 0; part < parts.backward; ++part) {
      if (lacks(part, Op::kBackward) && lacks(part, Op::kBackwardWeight)) {
        return absl::StrCat(lacks(part, Op::kBackwardInput) ? "B" : "W", " of part ", part);
      }
    }
    return "";
  }

 private:
  struct Parts {
    std::uint8_t forward = 0;  // 0 = none yet
    std::uint8_t backward = 0;
  };

  static std::uint8_t Bit(Op op) { return static_cast<std::uint8_t>(1 << static_cast<int>(op)); }

  std::string BackwardMistake(std::size_t activation, const Instruction& instruction, std::uint8_t done) const {
    // Its samples are [part, part + 1) / parts of the micro-batch; every part of the forward with one of them must have run.
    const int forwards = parts_[activation].forward;
    const int begin = instruction.part * forwards / instruction.parts;
    const int end = ((instruction.part + 1) * forwards + instruction.parts - 1) / instruction.parts;
    if (forwards == 0) return "the backward comes before its forward";
    for (int part = begin; part < end; ++part) {
      if ((done_[activation * max_parts_ + part] & Bit(Op::kForward)) != 0) continue;
      return absl::StrCat("the backward comes before part ", part, " of its forward");
    }
    if ((done & Bit(instruction.op)) != 0) return "this backward was done before";
    const bool full = instruction.op == Op::kBackward;
    const int other = full ? Bit(Op::kBackwardInput) | Bit(Op::kBackwardWeight) : Bit(Op::kBackward);
    if ((done & other) != 0) return "both a full and a split backward of this micro-batch";
    if (instruction.op == Op::kBackwardWeight && (done & Bit(Op::kBackwardInput)) == 0) {
      return "the weight gradient comes before its input gradient";
    }
    return "";
  }

  const int max_parts_;
  std::vector<Parts> parts_;        // [activation]
  std::vector<std::uint8_t> done_;  // [activation][part] bits of Op
};

// All stages of a micro-batch cut it into equal parts: a message is what its receiver expects.
Status VerifyEqualParts(const Schedule& schedule) {
  const int N = schedule.shape.micro_batches;
  std::vector<std::pair<const Instruction*, int>> first(2 * static_cast<std::size_t>(N), {nullptr, 0});  // [forward?][micro-batch], worker
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      if (!IsCompute(instruction.op)) continue;
      auto& [other, where] = first[(instruction.op == Op::kForward ? 0 : N) + instruction.micro_batch];
      if (other == nullptr) {
        other = &instruction;
        where = worker;
      }
      if (other->parts == instruction.parts) continue;
      return ErrorAt(
          schedule, {worker, static_cast<int>(i)},
          absl::StrCat("micro-batch ", instruction.micro_batch, " has ", static_cast<int>(instruction.parts), " parts here and ",
                       static_cast<int>(other->parts), " on stage ", other->stage, " (worker ", where, "); all stages must cut it alike"));
    }
  }
  return OkStatus();
}

// Runs the blocks of compute instructions as soon as their messages exist, without any limit on messages: what stays behind waits in a
// cycle.
Status VerifyAcyclic(const Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  const int max_parts = MaxParts(schedule);
  const auto number = [&](const Message& message) { return MessageIndex(shape, max_parts, message); };
  std::vector<char> made(NumMessages(shape, max_parts), 0);
  std::vector<std::int64_t> waits(shape.workers, -1);  // number of a message
  std::vector<Place> at;
  std::vector<int> runnable;
  for (int worker = 0; worker < shape.workers; ++worker) {
    at.push_back({worker, 0});
    runnable.push_back(worker);
  }
  while (!runnable.empty()) {
    Place& place = at[runnable.back()];
    runnable.pop_back();
    const auto& program = schedule.program[place.worker];
    waits[place.worker] = -1;
    while (place.index < static_cast<int>(program.size())) {
      const int end = static_cast<int>(BlockEnd(program, place.index));
      for (int i = place.index; i < end && waits[place.worker] < 0; ++i) {
        const auto needs = Consumes(shape, program[i]);
        if (needs && !made[number(*needs)]) waits[place.worker] = number(*needs);
      }
      if (waits[place.worker] >= 0) break;
      for (; place.index < end; ++place.index) {
        const auto makes = Produces(shape, program[place.index]);
        if (!makes) continue;
        made[number(*makes)] = 1;
        const int receiver = ReceiverOf(schedule, *makes);
        if (waits[receiver] == number(*makes)) runnable.push_back(receiver);
      }
    }
  }
  for (const Place& place : at) {
    const auto& program = schedule.program[place.worker];
    if (place.index == static_cast<int>(program.size())) continue;
    int i = place.index;
    while (!Consumes(shape, program[i]) || number(*Consumes(shape, program[i])) != waits[place.worker]) ++i;
    return InvalidArgument("schedule ", schedule.name, ", worker ", place.worker, ", instruction ", i, " (", ToString(program[i]),
                           "): waits in a cycle, or for nothing, for the ", ToString(*Consumes(shape, program[i])), "\n",
                           ProgramText(schedule, at));
  }
  return OkStatus();
}

}  // namespace

Status VerifyCompute(const Schedule& schedule, bool training) {
  const ScheduleShape& shape = schedule.shape;
  Progress progress(shape, MaxParts(schedule));
  for (int worker = 0; worker < shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    for (int i = 0; i < static_cast<int>(program.size()); ++i) {
      const Instruction& instruction = program[i];
      const auto fail = [&](const std::string& why) { return ErrorAt(schedule, {worker, i}, why); };
      if (instruction.paired_with_next) {
        const bool followed = i + 1 < static_cast<int>(program.size()) && IsCompute(program[i + 1].op);
        if (!IsCompute(instruction.op) || !followed)
          return fail("only a compute instruction can be paired, and only with the compute right behind it");
      }
      if (instruction.op == Op::kGradientSync || instruction.op == Op::kUpdate) continue;
      if (instruction.pipe < 0 || instruction.pipe >= shape.pipes) return fail(absl::StrCat("the pipe is not one of ", shape.pipes));
      if (instruction.stage < 0 || instruction.stage >= shape.stages) return fail(absl::StrCat("the stage is not one of ", shape.stages));
      if (instruction.micro_batch < 0 || instruction.micro_batch >= shape.micro_batches) {
        return fail(absl::StrCat("the micro-batch is not one of ", shape.micro_batches));
      }
      const int pipe = schedule.pipe_of_micro_batch[instruction.micro_batch];
      if (pipe != instruction.pipe) return fail(absl::StrCat("the micro-batch belongs to pipe ", pipe));
      const int home = schedule.worker_of[instruction.pipe][instruction.stage];
      if (home != worker) return fail(absl::StrCat("the stage is on worker ", home));
      if (!IsCompute(instruction.op)) continue;
      const std::string why = progress.Advance(ActivationIndex(shape, instruction), instruction);
      if (!why.empty()) return fail(why);
    }
  }
  for (int m = 0; m < shape.micro_batches; ++m) {
    const int pipe = schedule.pipe_of_micro_batch[m];
    for (int stage = 0; stage < shape.stages; ++stage) {
      const std::string missing = progress.Missing(static_cast<std::size_t>(stage) * shape.micro_batches + m, training);
      if (missing.empty()) continue;
      const int worker = schedule.worker_of[pipe][stage];
      return ErrorAt(schedule, {worker, static_cast<int>(schedule.program[worker].size())},
                     absl::StrCat("micro-batch ", m, " of pipe ", pipe, " lacks ", missing, " on stage ", stage));
    }
  }
  LYCIA_RETURN_IF_ERROR(VerifyEqualParts(schedule));
  return VerifyAcyclic(schedule);
}

}  // namespace lycia::schedule
