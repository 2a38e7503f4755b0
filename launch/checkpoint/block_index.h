// BlockIndex: where a tensor's elements lie in a part of a block. The way back of Runs.
#ifndef LYCIA_LAUNCH_CHECKPOINT_BLOCK_INDEX_H_
#define LYCIA_LAUNCH_CHECKPOINT_BLOCK_INDEX_H_

#include <cstdint>
#include <vector>

#include "launch/checkpoint/tiling.h"
#include "parallel/grid/block.h"

namespace lycia {

class BlockIndex {
 public:
  // The block outlives the index.
  explicit BlockIndex(const BlockPart& part);

  // Of the tensor, row-major: the part holds none outside [first, last), and so many within.
  std::int64_t first() const { return first_; }
  std::int64_t last() const { return last_; }
  std::int64_t elements() const { return elements_; }

  struct Place {
    std::int64_t local = -1;  // from the part's first element; < 0: not in the part
    std::int64_t count = 1;   // so many elements from the one asked for lie there one after the other, or are not in the part
  };
  Place Find(std::int64_t tensor_element) const;

 private:
  struct Located {
    IndexRange range;
    std::int64_t at = 0;  // its first index within the block
  };
  static std::vector<Located> Sorted(const std::vector<IndexRange>& ranges);
  static const Located* Find(const std::vector<Located>& sorted, std::int64_t index, std::int64_t* next_first);

  BlockPart part_;
  std::int64_t width_ = 0;  // of the block
  std::vector<Located> rows_, columns_;
  std::int64_t first_ = 0, last_ = 0, elements_ = 0;
};

// Elements of a block, as a range, among which are all those of the tensor's [first, last).
IndexRange ElementsWithin(const Block& block, std::int64_t first, std::int64_t last);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_BLOCK_INDEX_H_
