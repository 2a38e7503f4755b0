// Instructions as the pictures label them: short, and yet no two of a worker alike.
#ifndef LYCIA_PARALLEL_SCHEDULE_INSTRUCTION_LABEL_H_
#define LYCIA_PARALLEL_SCHEDULE_INSTRUCTION_LABEL_H_

#include <string>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

// The place of a stage among those of its pipe on its worker, ascending: 0 for the first.
int ChunkOf(const Schedule& schedule, int pipe, int stage);

// Whether some worker holds several stages of the pipes of one direction, so that "F3" would not say which one.
bool NeedsStages(const Schedule& schedule);

struct LabelOptions {
  bool stage = false;  // "2F3" instead of "F3"
};

// "F0", small for up pipes: "f2"; parts as "B3/1"; updates as "U", that of sync set 3 as "U3", its reduction as "S3".
std::string Label(const Schedule& schedule, const Instruction& instruction, const LabelOptions& options = {});

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_INSTRUCTION_LABEL_H_
