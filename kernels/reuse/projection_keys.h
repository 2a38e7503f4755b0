// Cells of random projections as keys of rows.
#ifndef LYCIA_KERNELS_REUSE_PROJECTION_KEYS_H_
#define LYCIA_KERNELS_REUSE_PROJECTION_KEYS_H_

#include <cstdint>

#include "kernels/reuse/build_index_map.h"

namespace lycia::cpu {

// [rows, H] of f32 (f64 for f64): projections, then the cells in their place.
struct ProjectionKeys {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0, count = 0;

  // Projections of the rows of a matrix, a fixed order of sums for each; three rows at a time share what they read of a.
  void Project(Stream& stream, const ConstMatrix& x, const ConstMatrix& a) const;
  // Cells of projections: floor(p / width + shift); what is not finite becomes one NaN.
  void ToCells(Stream& stream, const ReuseRule& rule) const;
  std::uint64_t Signature(std::int64_t row) const;
  // False where a cell is a NaN.
  bool Equal(std::int64_t row, std::int64_t other) const;
};

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_REUSE_PROJECTION_KEYS_H_
