#include "parallel/grid/parameter.h"

#include <algorithm>

#include "kernels/elementwise/elementwise.h"

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
  std::int64_t at = 0;
  for (const IndexRange& rows : block.rows) {
    for (std::int64_t i = 0; i < rows.count; ++i, at += width) {
      if (at + width <= begin || at >= end) continue;
      std::int64_t column_at = at;
      for (const IndexRange& columns : block.columns) {
        const bool padding = rows.first < 0 || columns.first < 0;
        add(column_at, padding ? -1 : (rows.first + i) * block.tensor_columns + columns.first, columns.count);
        column_at += columns.count;
      }
    }
  }
  return runs;
}

IndexRange GridParameter::Owned(const Grid& grid) const {
  const std::vector<std::int64_t> offsets = Offsets(grid);
  const std::size_t position = static_cast<std::size_t>(grid.position(group));
  return {offsets[position], offsets[position + 1] - offsets[position]};
}

std::vector<ElementRun> GridParameter::OwnedRuns(const Grid& grid) const {
  const IndexRange owned = Owned(grid);
  return Runs(block, owned.first, owned.first + owned.count);
}

ParameterSpec GridParameter::LayerSpec(const Grid& grid) const {
  const Shape block_shape = block.num_rows() == 1 ? Shape{block.num_columns()} : Shape{block.num_rows(), block.num_columns()};
  return {.name = name,
          .shape = exchange == Exchange::kEachUse ? Shape{Owned(grid).count} : block_shape,
          .initial = initial,
          .std = std,
          .decay = decay,
          .use = use};
}

void Initialise(Stream& stream, const GridParameter& parameter, const Grid& grid, std::uint64_t seed, const Tensor& owned) {
  LYCIA_CHECK_EQ(owned.elements(), parameter.Owned(grid).count);
  for (const ElementRun& run : parameter.OwnedRuns(grid)) {
    const std::int64_t offset = run.local * SizeOf(owned.dtype);
    const Tensor part{owned.data == nullptr ? nullptr : static_cast<char*>(owned.data) + offset, owned.dtype, {run.count}};
    if (run.tensor < 0 || parameter.initial != Initial::kNormal) {
      Fill(stream, {.out = part, .value = run.tensor >= 0 && parameter.initial == Initial::kOne ? 1.0 : 0.0});
    } else {
      FillNormal(
          stream,
          {.out = part, .random = RandomStream(seed, "init/" + parameter.tensor, 0), .std = parameter.std, .first_index = run.tensor});
    }
  }
}

}  // namespace lycia
