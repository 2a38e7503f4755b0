#include "kernels/gemm/blocking.h"

#include <algorithm>

namespace lycia::cpu {
namespace {

// A block of a is read once for every panel of b: it should stay in the second-level cache (1 to 2 MiB) beside b and c.
constexpr std::int64_t kNearBytes = std::int64_t{512} << 10;
// b that is packed block by block is packed anew for every block of rows, so blocks are taller then; and as tall as the workspace allows
// where it is packed panel by panel: a streams from the third-level cache, a few bytes a cycle.
constexpr std::int64_t kFarBytes = std::int64_t{1280} << 10;
constexpr std::int64_t kNearSums = std::int64_t{1} << 20;
constexpr std::int64_t kNearCols = 256, kFarCols = 1024;
// Packing one word against multiplying two, and reading one of packed b, which comes from far away.
constexpr double kPackCost = 48, kStreamCost = 40;

// Cuts `total` into the fewest parts of at most `most`, all of about one size, a multiple of `unit`.
std::int64_t EvenPart(std::int64_t total, std::int64_t most, std::int64_t unit) {
  most = std::max(most / unit * unit, unit);
  const std::int64_t parts = std::max<std::int64_t>((total + most - 1) / most, 1);
  return std::max(RoundUp((total + parts - 1) / parts, unit), unit);
}

std::int64_t AllPanels(const MicroKernel& kernel, const GemmShape& shape) {
  return shape.panels > 0 ? shape.panels : PanelsOf(kernel, shape.n);
}

// The grid of threads whose slowest member has least to do.
void ChooseGrid(const MicroKernel& kernel, const GemmShape& shape, GemmBlocking& blocking) {
  double best = 0;
  for (int row_parts = 1; row_parts <= shape.threads; ++row_parts) {
    if (shape.threads % row_parts != 0) continue;
    const int col_parts = shape.threads / row_parts;
    const std::int64_t rows = RoundUp((shape.m + row_parts - 1) / row_parts, kernel.even_rows ? 1 : kernel.rows);
    const std::int64_t cols = (AllPanels(kernel, shape) + col_parts - 1) / col_parts * kernel.cols;
    const auto r = static_cast<double>(rows), c = static_cast<double>(cols);
    const double cost =
        r * c + (shape.a_in_place ? kStreamCost : kPackCost) * r + (shape.packed_b || shape.b_in_place ? kStreamCost : kPackCost) * c;
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
  b.b_by_panel = shape.b_by_panel;
  b.words = shape.words > 0 ? shape.words : WordsOf(kernel, shape.k);
  b.block_words = EvenPart(b.words, kernel.block_words, kernel.word_unit);
  const std::int64_t column_bytes = std::max<std::int64_t>(b.block_words, 1) * kWordBytes;  // of b, one block deep
  const std::int64_t rows = std::max<std::int64_t>((shape.m + b.row_parts - 1) / b.row_parts, 1);
  const std::int64_t cols = std::max<std::int64_t>((AllPanels(kernel, shape) + b.col_parts - 1) / b.col_parts, 1) * kernel.cols;

  const std::int64_t a_share = workspace_bytes / 2, b_share = workspace_bytes / 4 - kSlackBytes;
  const std::int64_t sum_share = shape.b_by_panel ? workspace_bytes * 3 / 8 : workspace_bytes / 4;
  const bool groups = shape.a_in_place && kernel.group_rows > 0;
  const auto addresses = [&](std::int64_t words) {  // a block of the depth may begin and end within a run
    const std::int64_t pieces = words / std::max<std::int64_t>(shape.run_words, 1) + 2;
    return pieces * (groups ? kernel.rows / kernel.group_rows * 2 : kernel.rows);
  };
  const auto panel_bytes = [&](std::int64_t words) {
    return RoundUp(kernel.rows * words * kWordBytes, 64) + kSlackBytes + (groups ? RoundUp(addresses(words) * kAddressBytes, 64) : 0);
  };
  // Of one row of a, panels' slack included, at one depth.
  const auto row_bytes = [&](std::int64_t words) { return (panel_bytes(words) + kernel.rows - 1) / kernel.rows; };
  const std::int64_t tall_bytes = shape.packed_b ? kNearBytes : shape.b_by_panel ? a_share : kFarBytes;
  std::int64_t most_rows = std::min(tall_bytes, a_share) / row_bytes(b.block_words);
  const bool keeps_sums = !shape.sums_in_c && b.depth_blocks() > 1;
  if (keeps_sums) most_rows = std::min(most_rows, sum_share / (std::min(cols, kNearCols) * 4));
  // A block as deep as a whole, if it is still tall enough to be worth its pass over b.
  const std::int64_t whole_rows = std::min(most_rows, a_share / row_bytes(b.words));
  b.whole_a = (!shape.a_in_place || groups) && whole_rows >= std::min(RoundUp(rows, kernel.rows), 8 * std::int64_t{kernel.rows});
  // Packing a again for every block of columns is better than packing b again for every block of rows: those blocks are wider.
  if (shape.b_by_panel && whole_rows < std::min(rows, most_rows)) b.whole_a = false;
  b.block_rows = EvenPart(rows, b.whole_a ? whole_rows : most_rows, kernel.rows);
  std::int64_t most_cols = shape.packed_b || b.whole_a || keeps_sums ? kNearCols : kFarCols;
  if (shape.b_by_panel && !b.whole_a) most_cols = keeps_sums ? sum_share / (b.block_rows * 4) : cols;
  // Where all of the block's columns of c stay near, one pass over them for every block of the depth is better than a whole a, which does
  // not: each block of a is packed once, just before it is read.
  const std::int64_t near_rows = EvenPart(rows, most_rows, kernel.rows);
  if (shape.packed_b && shape.sums_in_c && b.depth_blocks() > 1 && near_rows * cols * 4 <= kNearSums) {
    b.whole_a = false;
    b.block_rows = near_rows;
    most_cols = cols;
  }
  if (shape.b_in_place) {
    const std::int64_t run_panels = shape.run_panels > 0 ? shape.run_panels : AllPanels(kernel, shape);
    b.b_addresses = (b.block_words + kAheadWords) * (kernel.pairs ? 2 : 1);
    // A block of columns may begin and end within a run.
    const std::int64_t most_runs = std::max<std::int64_t>(b_share / (b.b_addresses * kAddressBytes) - 2, 1);
    most_cols = std::min(most_cols, most_runs * run_panels * kernel.cols);
    b.block_cols = EvenPart(cols, most_cols, kernel.cols);
    b.b_bytes = RoundUp((b.block_cols / kernel.cols / run_panels + 2) * b.b_addresses * kAddressBytes, 64);
  } else if (shape.b_by_panel) {
    b.block_cols = EvenPart(cols, most_cols, kernel.cols);
    const std::int64_t most_bytes = std::min(kSmallB, workspace_bytes / 8 - kSlackBytes);  // beside a and sums
    b.b_bytes = RoundUp(std::max(kernel.cols * column_bytes, std::min(b.block_cols * column_bytes, most_bytes)) + kSlackBytes, 64);
  } else {
    b.block_cols = EvenPart(cols, shape.packed_b ? most_cols : std::min(most_cols, b_share / column_bytes), kernel.cols);
    b.b_bytes = shape.packed_b ? 0 : RoundUp(b.block_cols * b.block_words * kWordBytes + kSlackBytes, 64);
  }

  const std::int64_t a_words = b.whole_a ? b.words : b.block_words;
  b.a_addresses = shape.a_in_place ? addresses(a_words) : 0;
  b.a_panel_bytes = shape.a_in_place && !groups ? RoundUp(b.a_addresses * kAddressBytes, 64) : panel_bytes(a_words);
  b.a_bytes = b.block_rows / kernel.rows * b.a_panel_bytes;
  const std::int64_t tile = std::int64_t{kernel.rows} * kernel.cols * 4;
  if (!shape.sums_in_c) b.sum_bytes = b.depth_blocks() > 1 ? b.block_rows * b.block_cols * 4 : tile;
  return b;
}

}  // namespace lycia::cpu
