#include <algorithm>
#include <map>

#include "launch/checkpoint/block_index.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/tiling.h"

namespace lycia {
namespace {

// Pieces whose ranges and blocks are sound, and hold each element of the tensor once.
Status CheckPieces(const std::vector<ShardFile>& shards, LogicalTensor& tensor) {
  const std::int64_t elements = tensor.spec.elements();
  // Pieces of the flat tensor as rows of the blocks' width.
  Block flat = WholeTensor(elements);
  const auto record_of = [&](const LogicalTensor::Part& part) -> const PieceRecord& {
    return shards[static_cast<std::size_t>(part.shard)].pieces[static_cast<std::size_t>(part.piece)];
  };
  const Block* wide = nullptr;
  for (const LogicalTensor::Part& part : tensor.parts) {
    const PieceRecord& piece = record_of(part);
    std::int64_t limit = elements;
    if (!piece.block.rows.empty()) {
      LYCIA_RETURN_IF_ERROR(CheckBlock(piece.block, elements));
      if (wide != nullptr && wide->tensor_columns != piece.block.tensor_columns) {
        return InvalidArgument("its rows have ", wide->tensor_columns, " columns in one piece and ", piece.block.tensor_columns,
                               " in another");
      }
      wide = &piece.block;
      limit = piece.block.elements();
    }
    if (piece.begin < 0 || piece.end < piece.begin || piece.end > limit) {
      return InvalidArgument("range [", piece.begin, ", ", piece.end, ") leaves its ", limit, " elements");
    }
  }
  if (wide != nullptr && elements > 0) {
    flat = {.tensor_columns = wide->tensor_columns, .rows = {{0, elements / wide->tensor_columns}}, .columns = {{0, wide->tensor_columns}}};
  }
  std::vector<BlockPart> parts;
  for (LogicalTensor::Part& part : tensor.parts) {
    const PieceRecord& piece = record_of(part);
    parts.push_back({piece.block.rows.empty() ? &flat : &piece.block, piece.begin, piece.end});
    const BlockIndex index(parts.back());
    part.first = index.first();
    part.last = index.last();
  }
  return CheckTiling(elements, parts);
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
      tensor.parts.push_back({static_cast<int>(s), static_cast<int>(p)});
    }
  }
  std::vector<LogicalTensor> tensors;
  for (auto& [name, tensor] : by_name) {
    const Status status = CheckPieces(shards, tensor);
    if (!status.ok()) return Annotate(status, absl::StrCat("tensor ", name));
    std::sort(tensor.parts.begin(), tensor.parts.end(), [](const LogicalTensor::Part& a, const LogicalTensor::Part& b) {
      return a.first != b.first ? a.first < b.first : a.last < b.last;
    });
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace lycia
