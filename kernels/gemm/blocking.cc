#include "kernels/gemm/blocking.h"

#include <algorithm>

namespace lycia::cpu {
namespace {

// A block of a is read once for every panel of b: it should stay in the second-level cache (1 to 2 MiB) beside b and c.
constexpr std::int64_t kNearBytes = std::int64_t{512} << 10;
// b that is packed by the call is packed anew for every block of rows, so blocks are taller then.
constexpr std::int64_t kFarBytes = std::int64_t{1280} << 10;
constexpr std::int64_t kNearSums = std::int64_t{1} << 20;
constexpr std::int64_t kNearCols = 256, kFarCols = 1024;
// Packing one word against multiplying two, and reading one of packed b, which comes from far away.
constexpr double kPackCost = 48, kStreamCost = 40;
// Beyond the end of a panel: see PackArgs.
constexpr std::int64_t kSlackBytes = 64;

// Cuts `total` into the fewest parts of at most `most`, all of about one size, a multiple of `unit`.
std::int64_t EvenPart(std::int64_t total, std::int64_t most, std::int64_t unit) {
  most = std::max(most / unit * unit, unit);
  const std::int64_t parts = std::max<std::int64_t>((total + most - 1) / most, 1);
  return std::max(RoundUp((total + parts - 1) / parts, unit), unit);
}

// The grid of threads whose slowest member has least to do.
void ChooseGrid(const MicroKernel& kernel, const GemmShape& shape, GemmBlocking& blocking) {
  double best = 0;
  for (int row_parts = 1; row_parts <= shape.threads; ++row_parts) {
    if (shape.threads % row_parts != 0) continue;
    const int col_parts = shape.threads / row_parts;
    const std::int64_t rows = RoundUp((shape.m + row_parts - 1) / row_parts, kernel.even_rows ? 1 : kernel.rows);
    const std::int64_t cols = (PanelsOf(kernel, shape.n) + col_parts - 1) / col_parts * kernel.cols;
    const auto r = static_cast<double>(rows), c = static_cast<double>(cols);
    const double cost = r * c + kPackCost * r + (shape.packed_b ? kStreamCost : kPackCost) * c;
    if (row_parts > 1 && cost >= best) continue;
    best = cost;
    blocking.row_parts = row_parts;
    blocking.col_parts = col_parts;
  }
}

}  // namespace

GemmBlocking ChooseBlocking(const MicroKernel& kernel, const GemmShape& shape, std::int64_t workspace_bytes) {
  GemmBlocking b;
  ChooseGrid(kernel, shape, b);
  b.words = WordsOf(kernel, shape.k);
  b.block_words = EvenPart(b.words, kernel.block_words, kernel.word_unit);
  const std::int64_t column_bytes = std::max<std::int64_t>(b.block_words, 1) * kWordBytes;  // of b, one block deep
  const std::int64_t rows = std::max<std::int64_t>((shape.m + b.row_parts - 1) / b.row_parts, 1);
  const std::int64_t cols = std::max<std::int64_t>((PanelsOf(kernel, shape.n) + b.col_parts - 1) / b.col_parts, 1) * kernel.cols;

  const std::int64_t a_share = workspace_bytes / 2, b_share = workspace_bytes / 4 - kSlackBytes, sum_share = workspace_bytes / 4;
  // Of one row of a, panels' slack included, at one depth.
  const auto row_bytes = [&](std::int64_t words) {
    return (RoundUp(kernel.rows * words * kWordBytes, 64) + kSlackBytes + kernel.rows - 1) / kernel.rows;
  };
  std::int64_t most_rows = std::min(shape.packed_b ? kNearBytes : kFarBytes, a_share) / row_bytes(b.block_words);
  const bool keeps_sums = !shape.sums_in_c && b.depth_blocks() > 1;
  if (keeps_sums) most_rows = std::min(most_rows, sum_share / (std::min(cols, kNearCols) * 4));
  // A block as deep as a whole, if it is still tall enough to be worth its pass over b.
  const std::int64_t whole_rows = std::min(most_rows, a_share / row_bytes(b.words));
  b.whole_a = whole_rows >= std::min(RoundUp(rows, kernel.rows), 8 * std::int64_t{kernel.rows});
  b.block_rows = EvenPart(rows, b.whole_a ? whole_rows : most_rows, kernel.rows);
  std::int64_t most_cols = shape.packed_b || b.whole_a || keeps_sums ? kNearCols : kFarCols;
  // Where all of the block's columns of c stay near, one pass over them for every block of the depth is better than a whole a, which does
  // not: each block of a is packed once, just before it is read.
  const std::int64_t near_rows = EvenPart(rows, most_rows, kernel.rows);
  if (shape.packed_b && shape.sums_in_c && b.depth_blocks() > 1 && near_rows * cols * 4 <= kNearSums) {
    b.whole_a = false;
    b.block_rows = near_rows;
    most_cols = cols;
  }
  b.block_cols = EvenPart(cols, shape.packed_b ? most_cols : std::min(most_cols, b_share / column_bytes), kernel.cols);

  const std::int64_t a_words = b.whole_a ? b.words : b.block_words;
  b.a_panel_bytes = RoundUp(kernel.rows * a_words * kWordBytes, 64) + kSlackBytes;
  b.a_bytes = b.block_rows / kernel.rows * b.a_panel_bytes;
  b.b_bytes = shape.packed_b ? 0 : RoundUp(b.block_cols * b.block_words * kWordBytes + kSlackBytes, 64);
  const std::int64_t tile = std::int64_t{kernel.rows} * kernel.cols * 4;
  if (!shape.sums_in_c) b.sum_bytes = b.depth_blocks() > 1 ? b.block_rows * b.block_cols * 4 : tile;
  return b;
}

}  // namespace lycia::cpu
