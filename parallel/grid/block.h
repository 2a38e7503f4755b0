// Block: some rows × some columns of a matrix, which is what a rank of a grid computes with, and how its elements lie in the matrix.
#ifndef LYCIA_PARALLEL_GRID_BLOCK_H_
#define LYCIA_PARALLEL_GRID_BLOCK_H_

#include <cstdint>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

// Consecutive indices of a tensor's dimension; first < 0: padding, zeros that no index names.
struct IndexRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool operator==(const IndexRange&) const = default;
};
std::int64_t Count(const std::vector<IndexRange>& ranges);
// Part `part` of `size` indices cut into parts of `width`, padded at the end.
std::vector<IndexRange> PaddedPart(std::int64_t size, std::int64_t width, std::int64_t part);

// Rows and columns of a matrix, in the order in which they lie in the block; a vector has one row.
struct Block {
  std::int64_t tensor_columns = 0;
  std::vector<IndexRange> rows, columns;

  std::int64_t num_rows() const { return Count(rows); }
  std::int64_t num_columns() const { return Count(columns); }
  std::int64_t elements() const { return num_rows() * num_columns(); }
  // All columns in order: rows that follow one another in the block do so in the tensor.
  bool has_whole_rows() const { return columns.size() == 1 && columns[0] == IndexRange{0, tensor_columns}; }
  bool operator==(const Block&) const = default;
};
// All elements of a tensor, as one row.
Block WholeTensor(std::int64_t elements);

// InvalidArgument with the number, unless the tensor's elements are rows of tensor_columns, the ranges lie within them and name no index
// twice, and the block's size fits 63 bits. For blocks that come from a file.
Status CheckBlock(const Block& block, std::int64_t tensor_elements);

// Consecutive elements of a block that are consecutive in the tensor.
struct ElementRun {
  std::int64_t local = 0;   // from the first element asked for
  std::int64_t tensor = 0;  // row-major index; < 0: padding
  std::int64_t count = 0;
};
// Of elements [begin, end) of the block in row-major order.
std::vector<ElementRun> Runs(const Block& block, std::int64_t begin, std::int64_t end);

// Takes a rank's part of a tensor out of the whole: to[i] is the tensor's element that element begin + i of the block is, and zero bytes
// where that is padding. Host memory.
struct PlaceArgs {
  const void* tensor = nullptr;  // all elements, row-major
  void* to = nullptr;            // end - begin elements
  std::int64_t begin = 0, end = 0;
  std::int64_t element_bytes = 0;
};
void PlaceRuns(const Block& block, const PlaceArgs& args);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_BLOCK_H_
