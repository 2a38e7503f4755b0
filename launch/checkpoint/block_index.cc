#include "launch/checkpoint/block_index.h"

#include <algorithm>
#include <limits>

namespace lycia {
namespace {

constexpr std::int64_t kNoMore = std::numeric_limits<std::int64_t>::max();

}  // namespace

BlockIndex::BlockIndex(const BlockPart& part)
    : part_(part), width_(part.block->num_columns()), rows_(Sorted(part.block->rows)), columns_(Sorted(part.block->columns)) {
  const std::int64_t tensor_columns = part.block->tensor_columns;
  for (const Rectangle& of : Rectangles(part)) {
    const std::int64_t first = of.row_begin * tensor_columns + of.column_begin, last = (of.row_end - 1) * tensor_columns + of.column_end;
    first_ = elements_ == 0 ? first : std::min(first_, first);
    last_ = std::max(last_, last);
    elements_ += of.elements();
  }
}

std::vector<BlockIndex::Located> BlockIndex::Sorted(const std::vector<IndexRange>& ranges) {
  std::vector<Located> sorted;
  std::int64_t at = 0;
  for (const IndexRange& range : ranges) {
    if (range.first >= 0 && range.count > 0) sorted.push_back({range, at});
    at += range.count;
  }
  std::sort(sorted.begin(), sorted.end(), [](const Located& a, const Located& b) { return a.range.first < b.range.first; });
  return sorted;
}

// The range that holds `index`, or nullptr and where the next one begins.
const BlockIndex::Located* BlockIndex::Find(const std::vector<Located>& sorted, std::int64_t index, std::int64_t* next_first) {
  const auto after =
      std::upper_bound(sorted.begin(), sorted.end(), index, [](std::int64_t i, const Located& located) { return i < located.range.first; });
  *next_first = after == sorted.end() ? kNoMore : after->range.first;
  if (after == sorted.begin()) return nullptr;
  const Located& before = *(after - 1);
  return index < before.range.first + before.range.count ? &before : nullptr;
}

BlockIndex::Place BlockIndex::Find(std::int64_t tensor_element) const {
  const std::int64_t tensor_columns = part_.block->tensor_columns;
  const std::int64_t row = tensor_element / tensor_columns, column = tensor_element % tensor_columns;
  std::int64_t next = 0;
  const Located* rows = Find(rows_, row, &next);
  if (rows == nullptr) return {-1, next == kNoMore ? kNoMore - tensor_element : next * tensor_columns - tensor_element};
  const Located* columns = Find(columns_, column, &next);
  if (columns == nullptr) return {-1, std::min(next, tensor_columns) - column};
  const std::int64_t in_row = columns->range.first + columns->range.count - column;
  const std::int64_t in_rows = (rows->range.first + rows->range.count - row) * tensor_columns - column;
  const std::int64_t count = part_.block->has_whole_rows() ? in_rows : in_row;
  const std::int64_t local = (rows->at + row - rows->range.first) * width_ + columns->at + column - columns->range.first;
  if (local < part_.begin) return {-1, std::min(count, part_.begin - local)};
  if (local >= part_.end) return {-1, count};
  return {local - part_.begin, std::min(count, part_.end - local)};
}

IndexRange ElementsWithin(const Block& block, std::int64_t first, std::int64_t last) {
  const std::int64_t width = block.num_columns(), tensor_columns = block.tensor_columns;
  std::int64_t begin = kNoMore, end = 0, at = 0;
  for (const IndexRange& rows : block.rows) {
    const std::int64_t rows_first = rows.first * tensor_columns, rows_last = (rows.first + rows.count) * tensor_columns;
    const std::int64_t from = std::max(first, rows_first), to = std::min(last, rows_last);
    if (rows.first >= 0 && from < to) {
      const bool exact = block.has_whole_rows();
      begin = std::min(begin, at + (exact ? from - rows_first : (from - rows_first) / tensor_columns * width));
      end = std::max(end, at + (exact ? to - rows_first : ((to - rows_first - 1) / tensor_columns + 1) * width));
    }
    at += rows.count * width;
  }
  return begin < end ? IndexRange{begin, end - begin} : IndexRange{0, 0};
}

}  // namespace lycia
