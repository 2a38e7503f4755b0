// A schedule that a user wrote by hand, as CSV (parallel/schedule/csv.h).
#ifndef LYCIA_LAUNCH_SCHEDULE_FILE_H_
#define LYCIA_LAUNCH_SCHEDULE_FILE_H_

#include <string>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia {

// The file as it is. InvalidArgument where it cannot be read, whatever the reason.
StatusOr<std::string> ReadScheduleText(const std::string& path);
// The compute instructions of the file, named after it, with the fewest credits with which it runs; proven, alone and completed
// (passes.h). InvalidArgument, with the path in front: bad grammar with line and cell, or what Verify found, with the place marked in the
// programs.
StatusOr<schedule::Schedule> ReadScheduleFile(const std::string& path);
// The same from the file's text; `name` stands for it in messages.
StatusOr<schedule::Schedule> ScheduleOfText(const std::string& text, const std::string& name);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_SCHEDULE_FILE_H_
