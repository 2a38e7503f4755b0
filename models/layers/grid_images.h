// GridImages: how images, or rows of features, lie on a tensor grid between layers.
#ifndef LYCIA_MODELS_LAYERS_GRID_IMAGES_H_
#define LYCIA_MODELS_LAYERS_GRID_IMAGES_H_

#include <cstdint>

#include "parallel/grid/grid.h"
#include "parallel/mesh/sharding.h"
#include "runtime/core/tensor.h"

namespace lycia {

// Channels are cut along x or y, padded, and samples along z (slow) and the other. What goes into a model has all channels on every rank
// instead: pixels are few there, and nobody asks for their gradient.
struct GridImages {
  std::int64_t samples = 0, height = 0, width = 0, channels = 0;  // of a micro-batch, all ranks together
  Axis channels_along = Axis::kX;
  bool whole = false;  // every rank has all channels of its samples, of which those behind it lie along channels_along

  Axis samples_along() const { return channels_along == Axis::kX ? Axis::kY : Axis::kX; }  // beside z
  std::int64_t part_channels(const Grid& grid) const {
    const std::int64_t parts = whole ? 1 : grid.size(channels_along);
    return (channels + parts - 1) / parts;
  }
  std::int64_t part_samples(const Grid& grid) const { return samples / grid.size(Axis::kZ) / grid.size(samples_along()); }
  // A rank's part [samples, height, width, channels]; sizes that divide.
  TensorSpec Part(const Grid& grid, DType dtype) const { return {dtype, {part_samples(grid), height, width, part_channels(grid)}}; }
  // The place of a rank's first sample in the micro-batch.
  std::int64_t first_sample(const Grid& grid) const {
    return grid.coordinate(Axis::kZ) * (samples / grid.size(Axis::kZ)) + grid.coordinate(samples_along()) * part_samples(grid);
  }
  // Ranks with the same channels of other samples.
  GridGroup sharers() const { return channels_along == Axis::kX ? GridGroup::kZY : GridGroup::kZX; }
  Sharding sharding() const {
    const Sharding cut = Sharding().With(Axis::kZ, Spread::kRows).With(samples_along(), Spread::kRows);
    return whole ? cut : cut.With(channels_along, Spread::kColumns);
  }
  bool operator==(const GridImages&) const = default;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_IMAGES_H_
