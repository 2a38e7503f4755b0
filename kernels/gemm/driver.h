// The loops around a micro kernel: for each thread its part of c, in blocks; within a block the depth; within that, tile by tile. Where the
// operands come from is their packer's affair: a matrix (gemm_cpu.cc), or patches of images (kernels/conv).
#ifndef LYCIA_KERNELS_GEMM_DRIVER_H_
#define LYCIA_KERNELS_GEMM_DRIVER_H_

#include <cstdint>

#include "kernels/gemm/micro/micro_kernel.h"
#include "runtime/device/thread_pool.h"

namespace lycia::cpu {

// `count` runs of `length` columns of c or elements of depth. A panel of columns belongs to one run, a word of depth too (and, for AMX, a
// step of words): what a run lacks to a whole panel or word is padded. A matrix is one run.
struct Runs {
  std::int64_t count = 1, length = 0;
};
// Words of a run, and of all of them.
std::int64_t RunWords(const MicroKernel& kernel, const Runs& depth);
std::int64_t AllWords(const MicroKernel& kernel, const Runs& depth);
std::int64_t RunPanels(const MicroKernel& kernel, const Runs& cols);

// What a packer is asked for.
struct PanelPart {
  std::int64_t run = 0;   // of columns, of b; 0 for a
  std::int64_t lane = 0;  // row of a; column of b within its run
  std::int64_t lanes = 0;
  std::int64_t word = 0, words = 0;  // of the padded depth; a whole chunk, which may lie in several runs of depth
  void* to = nullptr;
  void* room = nullptr;  // what `find` may copy rows to: lanes as long as the words
};

// One operand, as functions on it.
struct Packer {
  const void* operand = nullptr;
  // Writes the part as the kernel's pack_a or pack_b would.
  void (*pack)(const void* operand, const MicroKernel& kernel, const PanelPart& part) = nullptr;
  // Depth is not contiguous in memory: all panels are packed some words at a time.
  bool across = false;
  // For operands that tiles read in place, or null. `to` is const char*[]: of a, for each piece of the words that lies in one run of depth,
  // kernel.rows addresses; of b, one address of the run's first column for each element of depth and kAheadWords words more. For kernels
  // with group_rows it is RowGroup[], kernel.rows / group_rows of a piece.
  void (*find)(const void* operand, const MicroKernel& kernel, const PanelPart& part) = nullptr;
  // Fetches share `share` of `shares` of what pack would read into the second-level cache; or null. b is then packed panel by panel, the
  // next one fetched while one is multiplied.
  void (*fetch)(const void* operand, const MicroKernel& kernel, const PanelPart& part, std::int64_t share, std::int64_t shares) = nullptr;
};
template <typename Source>
Packer PackerOf(const Source& source, bool across, bool in_place = false) {
  Packer packer = {.operand = &source, .across = across};
  packer.pack = [](const void* operand, const MicroKernel& kernel, const PanelPart& part) {
    static_cast<const Source*>(operand)->Pack(kernel, part);
  };
  if constexpr (requires { source.Fetch(MicroKernel{}, PanelPart{}, 0, 1); }) {
    packer.fetch = [](const void* operand, const MicroKernel& kernel, const PanelPart& part, std::int64_t share, std::int64_t shares) {
      static_cast<const Source*>(operand)->Fetch(kernel, part, share, shares);
    };
  }
  if constexpr (requires { source.Find(MicroKernel{}, PanelPart{}); }) {
    if (in_place) {
      packer.find = [](const void* operand, const MicroKernel& kernel, const PanelPart& part) {
        static_cast<const Source*>(operand)->Find(kernel, part);
      };
    }
  }
  return packer;
}

// Rows of c that do not lie one leading dimension apart: row (n, i, j) of a grid of `rows` x `cols` stands at n * plane + i * down + j * ld
// elements, ld that of the operand. cols 0: no grid.
struct RowGrid {
  std::int64_t rows = 0, cols = 0, plane = 0, down = 0;
};

struct BlockedProduct {
  std::int64_t rows = 0;
  Runs cols, depth;
  Packer a;
  Packer b;                        // not asked when packed_b is given
  const void* packed_b = nullptr;  // panel after panel of kernel.cols columns, each AllWords deep
  // c, and what is done with a sum before it gets there: operands begin at c's first element; sum, rows and cols are the driver's.
  EpilogueArgs to;
  RowGrid grid;  // of c and the epilogue's matrices
};

void MultiplyBlocked(const MicroKernel& kernel, const BlockedProduct& product, ThreadPool& pool);

// An operand b as MultiplyBlocked wants it packed.
std::int64_t PackedBytes(const MicroKernel& kernel, const Runs& cols, const Runs& depth);
struct PackedOperand {
  Runs cols, depth;
  Packer b;
  void* to = nullptr;
};
void PackBlocked(const MicroKernel& kernel, const PackedOperand& operand, ThreadPool& pool);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_DRIVER_H_
