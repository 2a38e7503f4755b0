#include "launch/checkpoint/tiling.h"

#include <algorithm>
#include <iterator>
#include <map>

namespace lycia {
namespace {

// Of one dimension of a block: the tensor's indices behind indices [begin, end), without padding.
std::vector<IndexRange> Within(const std::vector<IndexRange>& ranges, std::int64_t begin, std::int64_t end) {
  std::vector<IndexRange> within;
  std::int64_t at = 0;
  for (const IndexRange& range : ranges) {
    const std::int64_t from = std::max(at, begin), to = std::min(at + range.count, end);
    if (range.first >= 0 && from < to) within.push_back({range.first + from - at, to - from});
    at += range.count;
  }
  return within;
}

}  // namespace

std::vector<Rectangle> Rectangles(const BlockPart& part) {
  std::vector<Rectangle> rectangles;
  const Block& block = *part.block;
  const std::int64_t width = block.num_columns();
  for (std::int64_t at = part.begin; at < part.end;) {
    // From `at`: the rest of its row, or as many whole rows as there are.
    const std::int64_t row = at / width, column = at % width;
    const std::int64_t rows = column == 0 ? std::max<std::int64_t>(1, (part.end - at) / width) : 1;
    const std::int64_t column_end = std::min(width, column + part.end - at);
    for (const IndexRange& r : Within(block.rows, row, row + rows)) {
      for (const IndexRange& c : Within(block.columns, column, column_end)) {
        rectangles.push_back({r.first, r.first + r.count, c.first, c.first + c.count});
      }
    }
    at += (rows - 1) * width + column_end - column;
  }
  return rectangles;
}

namespace {

// The columns of one row that are covered, as the row moves down: column_begin -> column_end.
class CoveredColumns {
 public:
  std::int64_t count() const { return count_; }
  void Remove(const Rectangle& of) {
    columns_.erase(of.column_begin);
    count_ -= of.column_end - of.column_begin;
  }
  // What of it was covered before; empty (begin = end) where nothing was.
  Rectangle Add(const Rectangle& of) {
    const auto next = columns_.lower_bound(of.column_begin);
    if (next != columns_.end() && next->first < of.column_end) return {0, 0, next->first, std::min(of.column_end, next->second)};
    if (next != columns_.begin() && std::prev(next)->second > of.column_begin) {
      return {0, 0, of.column_begin, std::min(of.column_end, std::prev(next)->second)};
    }
    columns_.emplace_hint(next, of.column_begin, of.column_end);
    count_ += of.column_end - of.column_begin;
    return {};
  }
  // Of `width` columns, the first that are not covered.
  Rectangle FirstGap(std::int64_t width) const {
    std::int64_t at = 0;
    for (const auto& [begin, end] : columns_) {
      if (begin > at) return {0, 0, at, begin};
      at = end;
    }
    return {0, 0, at, width};
  }

 private:
  std::map<std::int64_t, std::int64_t> columns_;
  std::int64_t count_ = 0;
};

}  // namespace

Status CheckTiling(std::int64_t tensor_elements, absl::Span<const BlockPart> parts) {
  if (tensor_elements == 0) return OkStatus();
  const std::int64_t width = parts[0].block->tensor_columns;
  std::vector<Rectangle> starting;
  for (const BlockPart& part : parts) {
    const std::vector<Rectangle> of_part = Rectangles(part);
    starting.insert(starting.end(), of_part.begin(), of_part.end());
  }
  std::vector<Rectangle> ending = starting;
  std::sort(starting.begin(), starting.end(), [](const Rectangle& a, const Rectangle& b) { return a.row_begin < b.row_begin; });
  std::sort(ending.begin(), ending.end(), [](const Rectangle& a, const Rectangle& b) { return a.row_end < b.row_end; });

  // A row moves down over the tensor and stops where a rectangle starts or ends; in between nothing changes.
  CoveredColumns covered;
  auto start = starting.begin();
  auto end = ending.begin();
  for (std::int64_t row = 0; row < tensor_elements / width;) {
    const auto elements = [&](const Rectangle& of) {
      return StrCat("elements ", row * width + of.column_begin, " to ", row * width + of.column_end);
    };
    for (; end != ending.end() && end->row_end == row; ++end) covered.Remove(*end);
    for (; start != starting.end() && start->row_begin == row; ++start) {
      const Rectangle twice = covered.Add(*start);
      if (twice.column_begin < twice.column_end) return InvalidArgument(elements(twice), " are stored twice");
    }
    if (covered.count() != width) return InvalidArgument(elements(covered.FirstGap(width)), " are missing");
    row = start != starting.end() ? std::min(start->row_begin, end->row_end) : end->row_end;
  }
  return OkStatus();
}

}  // namespace lycia
