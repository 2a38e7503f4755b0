// BatchStaging: page-locked memory that inputs and labels pass on their way to the device, so that the host writes the next ones while the
// device reads these.
#ifndef LYCIA_LAUNCH_BATCH_STAGING_H_
#define LYCIA_LAUNCH_BATCH_STAGING_H_

#include <cstdint>

#include "runtime/core/status.h"
#include "runtime/device/device.h"

namespace lycia {

class BatchStaging {
 public:
  // bytes: of the largest load.
  static StatusOr<BatchStaging> Create(Device& device, std::int64_t bytes);

  // Host memory for the next load; waits, under the stream's guard, until what was loaded there before has been copied. nullptr on a stream
  // that has failed.
  void* Next(Stream& stream);
  // Enqueues the copy of what was written there.
  void CopyTo(Stream& stream, void* to, std::int64_t bytes);

 private:
  static constexpr int kSlots = 4;  // so many loads may wait for the device

  std::int64_t slot_bytes_ = 0;
  Buffer memory_;
  Event copied_[kSlots];
  int next_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_BATCH_STAGING_H_
