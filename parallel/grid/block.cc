#include "parallel/grid/block.h"

#include <algorithm>
#include <cstring>

namespace lycia {

std::int64_t Count(const std::vector<IndexRange>& ranges) {
  std::int64_t count = 0;
  for (const IndexRange& range : ranges) count += range.count;
  return count;
}

std::vector<IndexRange> PaddedPart(std::int64_t size, std::int64_t width, std::int64_t part) {
  const std::int64_t first = std::min(part * width, size), valid = std::min(width, size - first);
  std::vector<IndexRange> ranges;
  if (valid > 0) ranges.push_back({first, valid});
  if (valid < width) ranges.push_back({-1, width - valid});
  return ranges;
}

Block WholeTensor(std::int64_t elements) { return {.tensor_columns = elements, .rows = {{0, 1}}, .columns = {{0, elements}}}; }

namespace {

// Ranges of the `size` indices of one dimension; `total` gets their count.
Status CheckRanges(const char* dimension, const std::vector<IndexRange>& ranges, std::int64_t size, std::int64_t* total) {
  std::vector<IndexRange> sorted;
  *total = 0;
  for (const IndexRange& range : ranges) {
    if (range.count < 0 || (range.first >= 0 && range.first > size - range.count)) {
      return InvalidArgument(dimension, " ", range.first, " + ", range.count, " are not within ", size);
    }
    if (__builtin_add_overflow(*total, range.count, total)) return InvalidArgument(dimension, " overflow 63 bits");
    if (range.first >= 0 && range.count > 0) sorted.push_back(range);
  }
  std::sort(sorted.begin(), sorted.end(), [](const IndexRange& a, const IndexRange& b) { return a.first < b.first; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1].first + sorted[i - 1].count > sorted[i].first) {
      return InvalidArgument("a block names ", dimension, " ", sorted[i].first, " twice");
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckBlock(const Block& block, std::int64_t tensor_elements) {
  const std::int64_t width = block.tensor_columns;
  if (width < 0 || (width == 0 ? tensor_elements != 0 : tensor_elements % width != 0)) {
    return InvalidArgument(tensor_elements, " elements are no whole number of rows of ", width);
  }
  std::int64_t rows = 0, columns = 0, elements = 0;
  LYCIA_RETURN_IF_ERROR(CheckRanges("row", block.rows, width == 0 ? 1 : tensor_elements / width, &rows));
  LYCIA_RETURN_IF_ERROR(CheckRanges("column", block.columns, width, &columns));
  if (__builtin_mul_overflow(rows, columns, &elements)) return InvalidArgument("a block of ", rows, " x ", columns, " overflows 63 bits");
  return OkStatus();
}

std::vector<ElementRun> Runs(const Block& block, std::int64_t begin, std::int64_t end) {
  std::vector<ElementRun> runs;
  const auto add = [&](std::int64_t at, std::int64_t tensor, std::int64_t count) {
    const std::int64_t from = std::max(at, begin), to = std::min(at + count, end);
    if (from >= to) return;
    if (tensor >= 0) tensor += from - at;
    if (!runs.empty()) {
      ElementRun& last = runs.back();
      const bool follows = tensor < 0 ? last.tensor < 0 : last.tensor >= 0 && last.tensor + last.count == tensor;
      if (follows) {
        last.count += to - from;
        return;
      }
    }
    runs.push_back({from - begin, tensor, to - from});
  };
  const std::int64_t width = block.num_columns();
  if (width == 0) return runs;
  std::int64_t at = 0;  // of the first row of `rows`
  for (const IndexRange& rows : block.rows) {
    const std::int64_t first_row = std::clamp<std::int64_t>((begin - at) / width, 0, rows.count);
    const std::int64_t last_row = std::clamp<std::int64_t>((end - at + width - 1) / width, first_row, rows.count);
    if (rows.first < 0 || block.has_whole_rows()) {
      add(at, rows.first < 0 ? -1 : rows.first * width, rows.count * width);
    } else {
      for (std::int64_t i = first_row; i < last_row; ++i) {
        std::int64_t column_at = at + i * width;
        for (const IndexRange& columns : block.columns) {
          add(column_at, columns.first < 0 ? -1 : (rows.first + i) * block.tensor_columns + columns.first, columns.count);
          column_at += columns.count;
        }
      }
    }
    at += rows.count * width;
  }
  return runs;
}

void PlaceRuns(const Block& block, const PlaceArgs& args) {
  const char* from = static_cast<const char*>(args.tensor);
  char* to = static_cast<char*>(args.to);
  for (const ElementRun& run : Runs(block, args.begin, args.end)) {
    const std::size_t bytes = static_cast<std::size_t>(run.count * args.element_bytes);
    if (run.tensor < 0) {
      std::memset(to + run.local * args.element_bytes, 0, bytes);
    } else {
      std::memcpy(to + run.local * args.element_bytes, from + run.tensor * args.element_bytes, bytes);
    }
  }
}

}  // namespace lycia
