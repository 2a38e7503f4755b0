#include "launch/schedule_file.h"

#include <filesystem>

#include "parallel/schedule/csv.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/verify.h"
#include "runtime/io/file.h"

namespace lycia {

StatusOr<schedule::Schedule> ReadScheduleFile(const std::string& path) {
  const StatusOr<std::string> text = ReadFile(path, kMaxScheduleFileBytes);
  if (!text.ok()) return InvalidArgument(std::string(text.status().message()), "; name a CSV file with a schedule");
  return ScheduleOfText(*text, path);
}

StatusOr<schedule::Schedule> ScheduleOfText(const std::string& text, const std::string& name) {
  StatusOr<schedule::Schedule> schedule = schedule::ParseCsv(text, std::filesystem::path(name).stem().string());
  if (!schedule.ok()) return Annotate(schedule.status(), name);
  if (const Status status = schedule::Verify(*schedule, {.completed = false}); !status.ok()) return Annotate(status, name);
  const schedule::Schedule complete = schedule::Complete(*schedule);
  Status status;
  for (schedule->credits = 1; schedule->credits <= schedule->shape.micro_batches; ++schedule->credits) {
    status = schedule::Verify(complete, {.credits = schedule->credits});
    if (status.ok()) return schedule;
  }
  return Annotate(status, name);
}

}  // namespace lycia
