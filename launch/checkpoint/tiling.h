// Whether parts of blocks hold every element of a tensor exactly once.
#ifndef LYCIA_LAUNCH_CHECKPOINT_TILING_H_
#define LYCIA_LAUNCH_CHECKPOINT_TILING_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "parallel/grid/block.h"
#include "runtime/core/status.h"

namespace lycia {

// Elements [begin, end) of a sound block (CheckBlock), row-major; nothing is owned.
struct BlockPart {
  const Block* block = nullptr;
  std::int64_t begin = 0, end = 0;
};

// Rows × columns of the tensor.
struct Rectangle {
  std::int64_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;
  std::int64_t elements() const { return (row_end - row_begin) * (column_end - column_begin); }
};
// What a part is made of, without padding: for each range of rows and of columns at most a first, incomplete row of the block, its whole
// rows, and a last one.
std::vector<Rectangle> Rectangles(const BlockPart& part);

// All blocks are of the same tensor_columns. InvalidArgument tells the elements, row-major, that are stored twice or missing. The time is
// that of sorting rectangles, whatever the tensor's size.
Status CheckTiling(std::int64_t tensor_elements, absl::Span<const BlockPart> parts);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_TILING_H_
