#include "parallel/grid/parameter.h"

#include "kernels/elementwise/elementwise.h"

namespace lycia {

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
