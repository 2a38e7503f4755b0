#include "launch/batch_staging.h"

#include <algorithm>

namespace lycia {

StatusOr<BatchStaging> BatchStaging::Create(Device& device, std::int64_t bytes) {
  constexpr std::int64_t kAlignment = 64;
  BatchStaging staging;
  staging.slot_bytes_ = std::max<std::int64_t>(1, (bytes + kAlignment - 1) / kAlignment) * kAlignment;
  LYCIA_ASSIGN_OR_RETURN(staging.memory_, device.Allocate(kSlots * staging.slot_bytes_, MemoryKind::kPinned));
  return staging;
}

void* BatchStaging::Next(Stream& stream) {
  if (!stream.ok()) return nullptr;
  stream.Fail(copied_[next_].Wait(stream.guard()));
  return stream.ok() ? static_cast<char*>(memory_.data()) + next_ * slot_bytes_ : nullptr;
}

void BatchStaging::CopyTo(Stream& stream, void* to, std::int64_t bytes) {
  stream.Copy(to, static_cast<const char*>(memory_.data()) + next_ * slot_bytes_, bytes);
  copied_[next_] = stream.Record();
  next_ = (next_ + 1) % kSlots;
}

}  // namespace lycia
