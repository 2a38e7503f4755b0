#include "runtime/device/arena.h"

#include <cstring>

#include "absl/strings/str_format.h"

namespace lycia {

Region ArenaPlan::Add(std::string_view category, std::int64_t bytes) {
  LYCIA_CHECK_GE(bytes, 0);
  const std::int64_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const Region region{bytes_, bytes};
  bytes_ += padded;
  for (Category& c : categories_) {
    if (c.name == category) {
      c.bytes += padded;
      ++c.regions;
      return region;
    }
  }
  categories_.push_back({std::string(category), padded, 1});
  return region;
}

std::int64_t ArenaPlan::bytes(std::string_view category) const {
  for (const Category& c : categories_) {
    if (c.name == category) return c.bytes;
  }
  return 0;
}

std::string ArenaPlan::ToString() const {
  std::string text;
  for (const Category& c : categories_)
    absl::StrAppendFormat(&text, "  %-22s %10.2f MiB in %d regions\n", c.name, c.bytes / 1048576.0, c.regions);
  absl::StrAppendFormat(&text, "  %-22s %10.2f MiB\n", "total", bytes_ / 1048576.0);
  return text;
}

StatusOr<Arena> Arena::Allocate(Device& device, const ArenaPlan& plan) {
  Arena arena;
  LYCIA_ASSIGN_OR_RETURN(arena.buffer_, device.Allocate(plan.bytes(), MemoryKind::kDevice));
  if (device.kind() == DeviceKind::kCpu && plan.bytes() > 0) std::memset(arena.buffer_.data(), 0, static_cast<std::size_t>(plan.bytes()));
  return arena;
}

}  // namespace lycia
