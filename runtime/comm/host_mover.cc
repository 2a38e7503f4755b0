#include <cstdlib>
#include <cstring>

#include "runtime/comm/mover.h"

namespace lycia {
namespace {

class HostMover final : public Mover {
 public:
  StatusOr<Buffer> Allocate(std::int64_t bytes) override {
    constexpr std::int64_t kAlignment = 64;
    void* data = std::aligned_alloc(kAlignment, static_cast<std::size_t>((bytes + kAlignment - 1) / kAlignment * kAlignment));
    if (data == nullptr) return absl::ResourceExhaustedError(StrCat("no ", bytes, " bytes of memory left for messages"));
    return Buffer(data, bytes, [](void* p) { std::free(p); });
  }
  void Copy(void* to, const void* from, std::int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
  void LeftFold(DType dtype, std::span<const void* const> sources, std::int64_t elements, Fold fold, bool accumulate, void* out) override {
    lycia::LeftFold(dtype, sources, elements, fold, accumulate, out);
  }
  Event Record() override { return {}; }
  void Settle() override {}
  Status Check() override { return OkStatus(); }
};

}  // namespace

std::unique_ptr<Mover> NewHostMover() { return std::make_unique<HostMover>(); }

}  // namespace lycia
