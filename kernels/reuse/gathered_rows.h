// Listed rows of a matrix as the operand a of the driver.
#ifndef LYCIA_KERNELS_REUSE_GATHERED_ROWS_H_
#define LYCIA_KERNELS_REUSE_GATHERED_ROWS_H_

#include <algorithm>

#include "kernels/gemm/driver.h"
#include "runtime/core/tensor.h"

namespace lycia::cpu {

// Row j of the matrix is row list[j] of `data`.
struct GatheredRows {
  const char* data = nullptr;
  std::int64_t ld = 0;
  bool bf16 = false;
  const std::int32_t* list = nullptr;
  std::int64_t count = 0;  // of the list
  std::int64_t cols = 0;

  const char* At(std::int64_t row, std::int64_t col) const { return data + (list[row] * ld + col) * (bf16 ? 2 : 4); }
};

// Rows are rows of c.
struct GatheredAsRows {
  GatheredRows rows;
  void Pack(const MicroKernel& kernel, const PanelPart& part) const {
    constexpr std::int64_t kMostLanes = 32;  // rows of the tallest tile
    const std::int64_t elements = kernel.pairs ? 2 : 1, first = part.word * elements;
    const std::int64_t depth = std::clamp<std::int64_t>(rows.cols - first, 0, part.words * elements);
    const char* at[kMostLanes];
    for (std::int64_t l = 0; l < part.lanes; ++l) at[l] = depth > 0 ? rows.At(part.lane + l, first) : nullptr;
    kernel.pack_a(
        {.rows = at, .k_contiguous = true, .bf16 = rows.bf16, .lanes = part.lanes, .depth = depth, .words = part.words, .to = part.to});
  }
};

// Rows are the depth, columns rows of c.
struct GatheredAsDepth {
  GatheredRows rows;
  void Pack(const MicroKernel& kernel, const PanelPart& part) const {
    constexpr std::int64_t kMostElements = 64;  // of depth in one part: driver.cc's chunk of 32 words
    const std::int64_t elements = kernel.pairs ? 2 : 1, first = part.word * elements;
    const std::int64_t depth = std::clamp<std::int64_t>(rows.count - first, 0, part.words * elements);
    const char* at[kMostElements];
    for (std::int64_t k = 0; k < depth; ++k) at[k] = rows.At(first + k, part.lane);
    kernel.pack_a({.rows = at, .bf16 = rows.bf16, .lanes = part.lanes, .depth = depth, .words = part.words, .to = part.to});
  }
};

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_REUSE_GATHERED_ROWS_H_
