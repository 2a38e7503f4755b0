// How rows and columns of c are cut into the panels that tiles take.
#ifndef LYCIA_KERNELS_GEMM_PANELS_H_
#define LYCIA_KERNELS_GEMM_PANELS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/gemm/driver.h"

namespace lycia::cpu {

struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};
inline Range PartOf(std::int64_t total, std::int64_t part, std::int64_t parts) {
  return {total * part / parts, total * (part + 1) / parts};
}

// How the rows of a block are cut into panels; those of an even_rows kernel differ by at most one row, the first being the taller ones. A
// tile is done in half a microsecond: there is no time for a division in it.
struct RowPanels {
  std::int64_t rows, count, least, taller;

  RowPanels(const MicroKernel& kernel, std::int64_t rows) : rows(rows), count((rows + kernel.rows - 1) / kernel.rows) {
    least = kernel.even_rows ? rows / count : kernel.rows;
    taller = kernel.even_rows ? rows % count : 0;
  }
  Range At(std::int64_t p) const {
    const std::int64_t begin = p * least + std::min(p, taller);
    return {begin, std::min(rows, begin + least + (p < taller ? 1 : 0))};
  }
};

// Rows of c that a thread computes: whole panels where a part of one costs as much.
inline Range ThreadRows(const MicroKernel& kernel, std::int64_t m, std::int64_t part, std::int64_t parts) {
  if (kernel.even_rows) return PartOf(m, part, parts);
  const Range panels = PartOf((m + kernel.rows - 1) / kernel.rows, part, parts);
  return {panels.begin * kernel.rows, std::min(m, panels.end * kernel.rows)};
}

// Panel `panel` of columns in runs.
struct Columns {
  std::int64_t run = 0, lane = 0, lanes = 0;  // within the run
  std::int64_t col = 0;                       // of c
};
inline Columns ColumnsOf(const MicroKernel& kernel, const Runs& cols, std::int64_t panel) {
  if (cols.count == 1) {  // no division
    const std::int64_t col = panel * kernel.cols;
    return {0, col, std::min<std::int64_t>(kernel.cols, cols.length - col), col};
  }
  const std::int64_t run_panels = RunPanels(kernel, cols), run = panel / run_panels, lane = panel % run_panels * kernel.cols;
  return {run, lane, std::min<std::int64_t>(kernel.cols, cols.length - lane), run * cols.length + lane};
}
inline std::int64_t AllPanels(const MicroKernel& kernel, const Runs& cols) { return cols.count * RunPanels(kernel, cols); }

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_PANELS_H_
