#include "parallel/schedule/verify.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"

namespace lycia::schedule {

Status Verify(const Schedule& schedule, const VerifyOptions& options) {
  LYCIA_RETURN_IF_ERROR(VerifyShape(schedule));
  LYCIA_RETURN_IF_ERROR(VerifyCompute(schedule, options.training));
  LYCIA_RETURN_IF_ERROR(VerifyMemory(schedule, options));
  if (!options.completed) return OkStatus();
  LYCIA_RETURN_IF_ERROR(VerifyLoads(schedule));
  LYCIA_RETURN_IF_ERROR(VerifySync(schedule, options.training));
  LYCIA_RETURN_IF_ERROR(VerifyMessages(schedule));
  LYCIA_RETURN_IF_ERROR(Replay(schedule, options.credits, Matching::kByChannel));
  return Replay(schedule, options.credits, Matching::kByPair);
}

Status VerifyShape(const Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  const auto fail = [&](const auto&... parts) { return InvalidArgument("schedule ", schedule.name, ": ", parts...); };
  if (shape.workers < 1 || shape.chunks < 1 || shape.pipes < 1 || shape.micro_batches < 1 || shape.stages != shape.workers * shape.chunks) {
    return fail("workers ", shape.workers, ", chunks ", shape.chunks, ", stages ", shape.stages, ", pipes ", shape.pipes,
                ", micro-batches ", shape.micro_batches, " are no shape: all are at least 1 and stages = workers * chunks");
  }
  if (static_cast<int>(schedule.worker_of.size()) != shape.pipes)
    return fail("placement of ", schedule.worker_of.size(), " pipes, not ", shape.pipes);
  for (int pipe = 0; pipe < shape.pipes; ++pipe) {
    if (static_cast<int>(schedule.worker_of[pipe].size()) != shape.stages) return fail("pipe ", pipe, " places not all stages");
    for (const int worker : schedule.worker_of[pipe]) {
      if (worker < 0 || worker >= shape.workers) return fail("pipe ", pipe, " places a stage on worker ", worker, " of ", shape.workers);
    }
  }
  if (static_cast<int>(schedule.pipe_of_micro_batch.size()) != shape.micro_batches) return fail("not every micro-batch has a pipe");
  for (const int pipe : schedule.pipe_of_micro_batch) {
    if (pipe < 0 || pipe >= shape.pipes) return fail("a micro-batch is in pipe ", pipe, " of ", shape.pipes);
  }
  if (static_cast<int>(schedule.program.size()) != shape.workers)
    return fail(schedule.program.size(), " programs for ", shape.workers, " workers");
  return OkStatus();
}

namespace {

// What happened to one micro-batch on one stage so far.
struct Progress {
  bool forward = false;
  int parts = 0;             // of its backward; 0 = none yet
  std::vector<bool> full;    // [part] B
  std::vector<bool> input;   // [part] I
  std::vector<bool> weight;  // [part] W
};

// The rule that `instruction` breaks after `progress`, or "".
std::string Advance(const Instruction& instruction, Progress& progress) {
  if (instruction.op == Op::kForward) {
    if (instruction.parts != 1) return "a forward has no parts";
    if (progress.forward) return "second forward of this micro-batch on this stage";
    if (progress.parts > 0) return "the forward comes after its backward";
    progress.forward = true;
    return "";
  }
  if (!progress.forward) return "the backward comes before its forward";
  if (instruction.parts < 1 || instruction.part >= instruction.parts) return "the part is not one of its parts";
  if (progress.parts == 0) {
    progress.parts = instruction.parts;
    progress.full.assign(instruction.parts, false);
    progress.input = progress.weight = progress.full;
  }
  if (progress.parts != instruction.parts) return absl::StrCat("earlier backwards of this micro-batch have ", progress.parts, " parts");
  const int part = instruction.part;
  const bool full = instruction.op == Op::kBackward;
  auto& done = full ? progress.full : instruction.op == Op::kBackwardInput ? progress.input : progress.weight;
  if (done[part]) return "this backward was done before";
  if (full ? progress.input[part] || progress.weight[part] : progress.full[part])
    return "both a full and a split backward of this micro-batch";
  if (instruction.op == Op::kBackwardWeight && !progress.input[part]) return "the weight gradient comes before its input gradient";
  done[part] = true;
  return "";
}

std::string Missing(const Progress& progress, bool training) {
  if (!progress.forward) return "F";
  if (!training) return progress.parts > 0 ? "an end without backward (this is an evaluation) instead of B" : "";
  if (progress.parts == 0) return "B";
  for (int part = 0; part < progress.parts; ++part) {
    if (!progress.full[part] && !progress.weight[part]) return absl::StrCat(progress.input[part] ? "W" : "B", " of part ", part);
  }
  return "";
}

// Runs the compute instructions as soon as their messages exist, without any limit on messages: what stays behind waits in a cycle.
Status VerifyAcyclic(const Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  const int max_parts = MaxParts(schedule);
  std::vector<bool> made(NumMessages(shape, max_parts), false);
  std::vector<Place> at;
  for (int worker = 0; worker < shape.workers; ++worker) at.push_back({worker, 0});
  for (bool progress = true; progress;) {
    progress = false;
    for (Place& place : at) {
      const auto& program = schedule.program[place.worker];
      for (; place.index < static_cast<int>(program.size()); ++place.index, progress = true) {
        const Instruction& instruction = program[place.index];
        const auto needs = Consumes(shape, instruction);
        if (needs && !made[MessageIndex(shape, max_parts, *needs)]) break;
        if (const auto makes = Produces(shape, instruction)) made[MessageIndex(shape, max_parts, *makes)] = true;
      }
    }
  }
  for (const Place& place : at) {
    const auto& program = schedule.program[place.worker];
    if (place.index == static_cast<int>(program.size())) continue;
    const Message message = *Consumes(shape, program[place.index]);
    return InvalidArgument("schedule ", schedule.name, ", worker ", place.worker, ", instruction ", place.index, " (",
                           ToString(program[place.index]), "): waits in a cycle, or for nothing, for the ", ToString(message), "\n",
                           ProgramText(schedule, at));
  }
  return OkStatus();
}

}  // namespace

Status VerifyCompute(const Schedule& schedule, bool training) {
  const ScheduleShape& shape = schedule.shape;
  std::vector<std::vector<Progress>> progress(shape.stages, std::vector<Progress>(shape.micro_batches));
  for (int worker = 0; worker < shape.workers; ++worker) {
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      const auto fail = [&](const std::string& why) { return ErrorAt(schedule, {worker, i}, why); };
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
      const std::string why = Advance(instruction, progress[instruction.stage][instruction.micro_batch]);
      if (!why.empty()) return fail(why);
    }
  }
  for (int m = 0; m < shape.micro_batches; ++m) {
    const int pipe = schedule.pipe_of_micro_batch[m];
    for (int stage = 0; stage < shape.stages; ++stage) {
      const std::string missing = Missing(progress[stage][m], training);
      if (missing.empty()) continue;
      const int worker = schedule.worker_of[pipe][stage];
      return ErrorAt(schedule, {worker, static_cast<int>(schedule.program[worker].size())},
                     absl::StrCat("micro-batch ", m, " of pipe ", pipe, " lacks ", missing, " on stage ", stage));
    }
  }
  return VerifyAcyclic(schedule);
}

}  // namespace lycia::schedule
