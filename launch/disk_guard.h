// DiskGuard: for waits on files, which may last longer than the watchdog's deadline.
#ifndef LYCIA_LAUNCH_DISK_GUARD_H_
#define LYCIA_LAUNCH_DISK_GUARD_H_

#include <cstdint>
#include <string_view>

#include "launch/session.h"

namespace lycia {

// A disk may be slow for longer than any deadline: who waits for it shows, again and again, that it does. Ranks that are stopped or dead
// are found as in every wait.
class DiskGuard final : public WaitGuard {
 public:
  DiskGuard(Session& session, std::string_view activity, std::int64_t step) : session_(session), activity_(activity), step_(step) {}
  Status StillWaiting(std::int64_t waited_ns) override {
    session_.board->Publish(session_.rank(), activity_, step_);
    return session_.watchdog->StillWaiting(waited_ns);
  }

 private:
  Session& session_;
  std::string_view activity_;
  std::int64_t step_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DISK_GUARD_H_
