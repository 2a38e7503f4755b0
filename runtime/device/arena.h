// Plan, print, allocate once, run: all memory of a rank is declared first, then comes from one allocation.
#ifndef LYCIA_RUNTIME_DEVICE_ARENA_H_
#define LYCIA_RUNTIME_DEVICE_ARENA_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// A region of an arena, known before the arena exists.
struct Region {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

class ArenaPlan {
 public:
  static constexpr std::int64_t kAlignment = 64;  // a cache line, and the widest vector register

  // Appends a region; `category` ("weights", "activations", ...) groups the printed table.
  Region Add(std::string_view category, std::int64_t bytes);
  Region Add(std::string_view category, const TensorSpec& spec) { return Add(category, spec.bytes()); }

  std::int64_t bytes() const { return bytes_; }
  std::int64_t bytes(std::string_view category) const;
  // One line a category, in order of first use, and the total.
  std::string ToString() const;

 private:
  struct Category {
    std::string name;
    std::int64_t bytes = 0;
    int regions = 0;
  };
  std::int64_t bytes_ = 0;
  std::vector<Category> categories_;
};

class Arena {
 public:
  Arena() = default;
  // The memory is zeroed and every page is touched, so that a step takes no page fault.
  static StatusOr<Arena> Allocate(Device& device, const ArenaPlan& plan);

  void* At(const Region& region) const {
    return buffer_.data() == nullptr ? nullptr : static_cast<char*>(buffer_.data()) + region.offset;
  }
  Tensor At(const Region& region, const TensorSpec& spec) const {
    LYCIA_CHECK_LE(spec.bytes(), region.bytes);
    return {At(region), spec.dtype, spec.shape};
  }
  std::int64_t bytes() const { return buffer_.bytes(); }

 private:
  Buffer buffer_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_ARENA_H_
