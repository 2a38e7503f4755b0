// Programs as text, with marks: what an error about a schedule shows.
#ifndef LYCIA_PARALLEL_SCHEDULE_PROGRAM_TEXT_H_
#define LYCIA_PARALLEL_SCHEDULE_PROGRAM_TEXT_H_

#include <string>
#include <vector>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

// A place in a program; index may be the program's length, its end.
struct Place {
  int worker = 0;
  int index = 0;
};

// One line per worker, its instructions in issue order; those at `marked` stand between >> and <<. Long programs show the surroundings
// of the mark, or of the same share of the program where a worker has none.
//
//   worker 0 | p0.0F0 p0.0SENDF0 >>p0.0B1<< p0.0B0
//   worker 1 | p0.1RECVF0 p0.1F0 p0.1B0 p0.1SENDB0 ...
std::string ProgramText(const Schedule& schedule, const std::vector<Place>& marked);

// "worker 0, instruction 2 (p0.0B1): why", followed by the marked programs.
Status ErrorAt(const Schedule& schedule, const Place& place, const std::string& why);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_PROGRAM_TEXT_H_
