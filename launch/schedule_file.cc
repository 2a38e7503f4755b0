#include "launch/schedule_file.h"

#include <cstdint>
#include <filesystem>

#include "parallel/schedule/csv.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/verify.h"
#include "runtime/io/file.h"

namespace lycia {

namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{64} << 20;

}  // namespace

StatusOr<std::string> ReadScheduleText(const std::string& path) {
  StatusOr<std::string> text = ReadFile(path, kMaxBytes);
  if (!text.ok()) return InvalidArgument(std::string(text.status().message()), "; name a CSV file with a schedule");
  return text;
}

StatusOr<schedule::Schedule> ReadScheduleFile(const std::string& path) {
  LYCIA_ASSIGN_OR_RETURN(const std::string text, ReadScheduleText(path));
  return ScheduleOfText(text, path);
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
