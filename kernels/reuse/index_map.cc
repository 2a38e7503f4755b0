#include "kernels/reuse/index_map.h"

#include <limits>

#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr std::int64_t kLine = 64;
std::int64_t ArrayBytes(std::int64_t count) { return (count * 4 + kLine - 1) / kLine * kLine; }

}  // namespace

std::string IndexMap::ToString() const {
  constexpr const char* kKinds[] = {"a partition", "a subset", "a block mask"};
  constexpr const char* kDims[] = {"rows (M)", "columns (N)", "depths (K)", "blocks"};
  return StrCat(kKinds[static_cast<int>(kind)], " of ", extent, " ", kDims[static_cast<int>(dim)]);
}

std::int64_t IndexMapBytes(std::int64_t extent) { return ArrayBytes(1) + 4 * ArrayBytes(extent) + ArrayBytes(extent + 1); }

IndexMap IndexMapIn(void* memory, MapDim dim, MapKind kind, std::int64_t extent) {
  LYCIA_CHECK(extent >= 0 && extent < std::numeric_limits<std::int32_t>::max()) << "a map of " << extent << " indices ";
  char* at = static_cast<char*>(memory);
  const auto take = [&](std::int64_t count) {
    auto* array = reinterpret_cast<std::int32_t*>(at);
    if (at != nullptr) at += ArrayBytes(count);
    return array;
  };
  IndexMap map = {.dim = dim, .kind = kind, .extent = extent};
  map.size = take(1);
  map.ids = take(extent);
  map.representatives = take(extent);
  map.counts = take(extent);
  map.members = take(extent);
  map.offsets = take(extent + 1);
  return map;
}

Status CheckPartitionOfRows(const IndexMap& map, const char* kernel) {
  if (map.dim == MapDim::kM && map.kind == MapKind::kPartition) return OkStatus();
  return absl::UnavailableError(
      StrCat("kernel ", kernel, " takes partitions of rows (M), not ", map.ToString(), "; run the dense product of this operand instead"));
}

bool IsPartitionOfRows(Stream& stream, const IndexMap& map, const char* kernel) {
  const Status status = CheckPartitionOfRows(map, kernel);
  if (!status.ok()) stream.Fail(status);
  return status.ok();
}

}  // namespace lycia
