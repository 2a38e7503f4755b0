// How a product is cut: among threads, into blocks whose packed operands fit the caches, and along the depth. A pure function of sizes.
#ifndef LYCIA_KERNELS_GEMM_BLOCKING_H_
#define LYCIA_KERNELS_GEMM_BLOCKING_H_

#include <cstdint>

#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {

struct GemmShape {
  std::int64_t m = 0, n = 0, k = 0;
  bool packed_b = false;
  bool sums_in_c = false;  // c is f32: partial sums may stand there
  int threads = 1;
  // Where depth or columns come in runs (driver.h): the padded depth, a run's words, panels of columns, panels in a run. 0: of k and n.
  std::int64_t words = 0, run_words = 0, panels = 0, run_panels = 0;
  // Tiles read an operand where it lies; addresses stand in the workspace in its place.
  bool a_in_place = false, b_in_place = false;
  // b is packed panel by panel, each just before it is read, rather than block by block.
  bool b_by_panel = false;
};

struct GemmBlocking {
  // Threads form a grid over rows and columns of c; the depth is never divided among them.
  int row_parts = 1, col_parts = 1;
  // Depth in words, and what is summed at once. They depend on k and the kernel alone: they decide the bits of a sum.
  std::int64_t words = 0, block_words = 0;
  // Rows and columns of c that one pass over the depth computes.
  std::int64_t block_rows = 0, block_cols = 0;
  bool whole_a = false;  // block_rows of a are packed once for the whole depth, not anew for every block of columns
  // Of a thread's workspace: packed a, packed b (none when it comes packed), sums (none when they stand in c).
  std::int64_t a_bytes = 0, b_bytes = 0, sum_bytes = 0;
  std::int64_t a_panel_bytes = 0;  // from one panel of packed a to the next: what is overwritten beyond a panel (PackArgs) lies between

  std::int64_t depth_blocks() const { return words == 0 ? 1 : (words + block_words - 1) / block_words; }
  // Of an operand in place: addresses of one panel of rows of a, and of one run of columns of b, one block of the depth. For a kernel with
  // group_rows, a panel of a also has the room of a packed one behind its addresses: rows at uneven distances are copied there.
  std::int64_t a_addresses = 0, b_addresses = 0;
  bool b_by_panel = false;  // as asked for
  bool operator==(const GemmBlocking&) const = default;
};

// The least workspace that every shape can be computed with.
inline constexpr std::int64_t kLeastGemmWorkspace = std::int64_t{512} << 10;

GemmBlocking ChooseBlocking(const MicroKernel& kernel, const GemmShape& shape, std::int64_t workspace_bytes);

// b that stays in the second-level cache beside a and c.
inline constexpr std::int64_t kSmallB = std::int64_t{128} << 10;

inline constexpr std::int64_t kAddressBytes = 8;
// Beyond the end of packed panels: see PackArgs.
inline constexpr std::int64_t kSlackBytes = 64;

inline std::int64_t RoundUp(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }
// Padded depth.
inline std::int64_t WordsOf(const MicroKernel& kernel, std::int64_t k) { return RoundUp(kernel.pairs ? (k + 1) / 2 : k, kernel.word_unit); }
inline std::int64_t PanelsOf(const MicroKernel& kernel, std::int64_t n) { return (n + kernel.cols - 1) / kernel.cols; }

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_BLOCKING_H_
