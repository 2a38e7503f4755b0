// GridSizes: how large everything is on one rank, and whether a model fits a grid at all.
#ifndef LYCIA_PARALLEL_GRID_SIZES_H_
#define LYCIA_PARALLEL_GRID_SIZES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

// A transformer's sizes for one micro-batch.
struct GridProblem {
  std::int64_t samples = 0;     // B
  std::int64_t sequence = 0;    // T, tokens of a sample
  std::int64_t hidden = 0;      // C
  std::int64_t heads = 0;       // H
  std::int64_t kv_heads = 0;    // G
  std::int64_t ffn = 0;         // F
  std::int64_t vocabulary = 0;  // V
};

struct GridSizes {
  std::int64_t samples = 0;   // of one z; sequences stay whole
  std::int64_t rows_z = 0;    // tokens of one z
  std::int64_t rows_zy = 0;   // of one (z, y): the residual stream
  std::int64_t rows_zx = 0;   // of one (z, x): the hidden layer of the MLP, the logits
  std::int64_t features = 0;  // of one x
  std::int64_t heads = 0;     // of one (y, x)
  std::int64_t kv_heads = 0;  // used by one (y, x)
  // Fewer key/value heads than (y, x) parts: several parts use one head. Its columns are then shared along (z, y) as a flat block.
  bool kv_shared = false;
  std::int64_t ffn = 0;         // of one y, padded
  std::int64_t vocabulary = 0;  // of one y, padded
};

// x, y, z: sizes of the axes. Rules of divisibility, the one place where they stand:
//   z | samples;  y | samples sequence / z;  x | samples sequence / z;  x | hidden;  x y | heads;  x y | kv_heads, or kv_heads | x y
// FFN and vocabulary are padded to multiples of y and matrices are cut flat along z, so they refuse nothing. Every rule that is broken,
// with the numbers and the nearest sizes that work; empty: it fits. Rules that only follow from a broken one are left out.
std::vector<std::string> GridRefusals(const GridProblem& problem, int x, int y, int z);
// InvalidArgument with the first of them.
StatusOr<GridSizes> FitToGrid(const GridProblem& problem, int x, int y, int z);

// A convolution's sizes for one micro-batch, all ranks together.
struct GridConvProblem {
  std::int64_t samples = 0;   // N
  std::int64_t channels = 0;  // C
  std::int64_t filters = 0;   // K
  std::int64_t groups = 1;
  std::int64_t norm_samples = 1;  // of a batch norm that follows
};
// Of the axes with these roles (product.h): R cuts samples, K channels, N filters.
struct GridConvAxes {
  int rows = 1, contraction = 1, columns = 1;
};
struct GridConvSizes {
  std::int64_t samples = 0;      // of one R; images stay whole
  std::int64_t in_samples = 0;   // of one (R, N): X
  std::int64_t out_samples = 0;  // of one (R, K): Y
  std::int64_t channels = 0;     // of one K, padded
  std::int64_t filters = 0;      // of one N, padded
};
// Rules of divisibility:
//   R | samples;  N | samples / R;  K | samples / R;  norm_samples | samples / (R K);  groups = 1, unless K = N = 1
// Channels and filters are padded with zeros that stay zero, and filters are cut flat along R, so they refuse nothing.
std::vector<std::string> GridConvRefusals(const GridConvProblem& problem, const GridConvAxes& axes);
StatusOr<GridConvSizes> FitConvToGrid(const GridConvProblem& problem, const GridConvAxes& axes);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_SIZES_H_
