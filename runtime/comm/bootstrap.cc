#include "runtime/comm/bootstrap.h"

#include <algorithm>
#include <utility>

namespace lycia {
namespace {

class CommunicatorBootstrap final : public Bootstrap {
 public:
  explicit CommunicatorBootstrap(Communicator* world) : world_(world) {}
  int rank() const override { return world_->rank(); }
  int size() const override { return world_->size(); }

  StatusOr<std::vector<std::string>> Exchange(std::string_view what, std::string_view mine) override {
    std::vector<std::int64_t> ends(static_cast<std::size_t>(size()) + 1);
    const auto bytes = static_cast<std::int64_t>(mine.size());
    LYCIA_RETURN_IF_ERROR(Annotate(Gather({&bytes, DType::kI64, {1}}, {ends.data() + 1, DType::kI64, {size()}}, {}), what));
    for (std::size_t r = 1; r < ends.size(); ++r) ends[r] += ends[r - 1];
    std::string all(static_cast<std::size_t>(ends.back()), '\0');
    LYCIA_RETURN_IF_ERROR(Annotate(Gather({mine.data(), DType::kU8, {bytes}}, {all.data(), DType::kU8, {ends.back()}}, ends), what));
    std::vector<std::string> values;
    for (std::size_t r = 0; r + 1 < ends.size(); ++r) {
      values.push_back(all.substr(static_cast<std::size_t>(ends[r]), static_cast<std::size_t>(ends[r + 1] - ends[r])));
    }
    return values;
  }

 private:
  Status Gather(const ConstTensor& in, const Tensor& out, std::span<const std::int64_t> offsets) {
    return world_->AllGather({.in = in, .out = out, .offsets = offsets, .tag = Tag::kSetup}, {}).Wait();
  }

  Communicator* const world_;
};

}  // namespace

std::unique_ptr<Bootstrap> BootstrapOver(Communicator* world) { return std::make_unique<CommunicatorBootstrap>(world); }

Status CheckJobName(std::string_view job) {
  const auto plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const bool good = std::all_of(job.begin(), job.end(), [&](char c) { return plain(c) || c == '-' || c == '_' || c == '.'; });
  if (!job.empty() && good && plain(job[0])) return OkStatus();
  return InvalidArgument("job name \"", job, "\": letters, digits, '-', '_' and '.' only, a letter or digit first");
}

std::string RankList(std::span<const int> ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t begin = 0, end = 0; begin < ranks.size(); begin = end) {
    for (end = begin + 1; end < ranks.size() && ranks[end] == ranks[end - 1] + 1;) ++end;
    text += StrCat(begin == 0 ? "" : ", ", ranks[begin]);
    if (end - begin == 2) text += StrCat(", ", ranks[end - 1]);
    if (end - begin > 2) text += StrCat(" to ", ranks[end - 1]);
  }
  return text;
}

}  // namespace lycia
