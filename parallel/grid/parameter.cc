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

void FillInitial(Stream& stream, const FillInitialArgs& args) {
  const std::int64_t element_bytes = SizeOf(args.out.dtype);
  for (const ElementRun& run : Runs(args.block, args.begin, args.end)) {
    char* data = static_cast<char*>(args.out.data);
    const Tensor part{data == nullptr ? nullptr : data + run.local * element_bytes, args.out.dtype, {run.count}};
    if (run.tensor < 0 || args.initial != Initial::kNormal) {
      Fill(stream, {.out = part, .value = run.tensor >= 0 && args.initial == Initial::kOne ? 1.0 : 0.0});
    } else {
      FillNormal(stream,
                 {.out = part, .random = RandomStream(args.seed, "init/" + args.tensor, 0), .std = args.std, .first_index = run.tensor});
    }
  }
}

void Initialise(Stream& stream, const GridParameter& parameter, const Grid& grid, std::uint64_t seed, const Tensor& owned) {
  const IndexRange range = parameter.Owned(grid);
  LYCIA_CHECK_EQ(owned.elements(), range.count);
  FillInitial(stream, {.block = parameter.block,
                       .begin = range.first,
                       .end = range.first + range.count,
                       .tensor = parameter.tensor,
                       .initial = parameter.initial,
                       .std = parameter.std,
                       .seed = seed,
                       .out = owned});
}

}  // namespace lycia
