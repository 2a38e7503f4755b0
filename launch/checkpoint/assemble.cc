#include <algorithm>
#include <map>

#include "launch/checkpoint/manifest.h"

namespace lycia {
namespace {

Status CheckTiling(const LogicalTensor& tensor) {
  const std::int64_t elements = tensor.spec.elements();
  std::int64_t covered = 0;
  for (const LogicalTensor::Part& part : tensor.parts) {
    if (part.begin < 0 || part.end < part.begin || part.end > elements) {
      return InvalidArgument("tensor ", tensor.name, ": range [", part.begin, ", ", part.end, ") leaves its ", elements, " elements");
    }
    if (part.begin != covered) {
      return InvalidArgument("tensor ", tensor.name, ": elements ", std::min(covered, part.begin), " to ", std::max(covered, part.begin),
                             part.begin < covered ? " are stored twice" : " are missing");
    }
    covered = part.end;
  }
  if (covered != elements) return InvalidArgument("tensor ", tensor.name, ": elements ", covered, " to ", elements, " are missing");
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<LogicalTensor>> AssembleTensors(const std::vector<ShardFile>& shards) {
  std::map<std::string, LogicalTensor> by_name;
  for (std::size_t s = 0; s < shards.size(); ++s) {
    for (std::size_t p = 0; p < shards[s].pieces.size(); ++p) {
      const PieceRecord& piece = shards[s].pieces[p];
      const TensorSpec spec{piece.dtype, piece.logical_shape};
      LogicalTensor& tensor = by_name.try_emplace(piece.name, LogicalTensor{piece.name, spec, {}}).first->second;
      if (!(tensor.spec == spec)) {
        return InvalidArgument("tensor ", piece.name, " is ", tensor.spec.ToString(), " in one piece and ", spec.ToString(), " in ",
                               shards[s].file);
      }
      tensor.parts.push_back({piece.begin, piece.end, static_cast<int>(s), static_cast<int>(p)});
    }
  }
  std::vector<LogicalTensor> tensors;
  for (auto& [name, tensor] : by_name) {
    std::sort(tensor.parts.begin(), tensor.parts.end(), [](const LogicalTensor::Part& a, const LogicalTensor::Part& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    LYCIA_RETURN_IF_ERROR(CheckTiling(tensor));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace lycia
