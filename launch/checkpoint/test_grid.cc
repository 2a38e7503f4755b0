#include "launch/checkpoint/test_grid.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

// Part `part` of `parts` of [first, first + count), uneven; perhaps empty.
IndexRange UnevenPart(std::int64_t first, std::int64_t count, int part, int parts) {
  const std::int64_t begin = count * part / parts, end = count * (part + 1) / parts;
  return {first + begin, end - begin};
}

// Flat part `part` of `parts` of a block.
Piece OwnedPart(const TestTensor& tensor, Block block, int part, int parts) {
  const IndexRange owned = UnevenPart(0, block.elements(), part, parts);
  return {.name = tensor.name,
          .dtype = tensor.spec.dtype,
          .logical_shape = tensor.spec.shape,
          .begin = owned.first,
          .end = owned.first + owned.count,
          .block = std::move(block)};
}

// Widths for `parts` parts with at least as much padding as it takes, sometimes a whole part of it.
std::int64_t PaddedWidth(std::int64_t size, int parts, std::uint32_t bits) { return (size + parts - 1) / parts + bits % 2; }

void AddPieces(const TestTensor& tensor, const TestGrid& grid, int rank, std::vector<Piece>* pieces) {
  const int o = rank % grid.owners, c = rank / grid.owners % grid.columns, r = rank / grid.owners / grid.columns;
  const RandomStream random(grid.seed, tensor.name, 0);
  const std::int64_t elements = tensor.spec.elements();
  const std::int64_t width = tensor.spec.shape.rank() == 0 ? 1 : tensor.spec.shape.dim(-1);
  const std::uint32_t way = random.Bits(0) % 4;
  if (way == 0 || elements == 0) {  // no block: all ranks cut the flat tensor
    Piece piece = OwnedPart(tensor, WholeTensor(elements), rank, grid.ranks());
    piece.block = {};
    pieces->push_back(std::move(piece));
    return;
  }
  const std::int64_t height = elements / width;
  Block block{.tensor_columns = width};
  block.rows = PaddedPart(height, PaddedWidth(height, grid.rows, random.Bits(1)), r);
  if (way == 1) {
    block.columns = PaddedPart(width, PaddedWidth(width, grid.columns, random.Bits(2)), c);
    pieces->push_back(OwnedPart(tensor, std::move(block), o, grid.owners));
    return;
  }
  // Columns q, k, v; of each, the rank has part c.
  const std::int64_t q = random.Bits(3) % (width + 1), k = random.Bits(4) % (width - q + 1);
  const std::vector<IndexRange> parts = {UnevenPart(q + k, width - q - k, c, grid.columns), UnevenPart(0, q, c, grid.columns),
                                         UnevenPart(q, k, c, grid.columns)};
  if (way == 2) {
    block.columns = parts;
    pieces->push_back(OwnedPart(tensor, std::move(block), o, grid.owners));
    return;
  }
  // q alone; k and v whole, owned by all parts of this row together.
  Block shared = block;
  block.columns = {parts[1]};
  shared.columns = {{q, width - q}};
  pieces->push_back(OwnedPart(tensor, std::move(block), o, grid.owners));
  pieces->push_back(OwnedPart(tensor, std::move(shared), c * grid.owners + o, grid.columns * grid.owners));
}

}  // namespace

std::string TestGrid::ToString() const { return absl::StrCat(rows, " x ", columns, " x ", owners, " seed ", seed); }

TestGrid RandomTestGrid(std::uint64_t seed, int largest) {
  const RandomStream random(seed, "grid", 0);
  const auto upto = [&](std::uint64_t draw) { return 1 + static_cast<int>(random.Bits(draw) % static_cast<std::uint32_t>(largest)); };
  return {.rows = upto(0), .columns = upto(1), .owners = upto(2), .seed = seed};
}

std::vector<Piece> PiecesOfRank(const std::vector<TestTensor>& tensors, const TestGrid& grid, int rank) {
  std::vector<Piece> pieces;
  for (const TestTensor& tensor : tensors) AddPieces(tensor, grid, rank, &pieces);
  return pieces;
}

}  // namespace lycia
