// What an instruction set brings to a matrix multiply: packing, one register tile, the epilogue. The loops around them are the same for all
// (../driver.h). The files of one instruction set are compiled with its own flags, so this header and what they include defines no
// function that the linker could share with other files.
#ifndef LYCIA_KERNELS_GEMM_MICRO_MICRO_KERNEL_H_
#define LYCIA_KERNELS_GEMM_MICRO_MICRO_KERNEL_H_

#include <cstdint>

namespace lycia::cpu {

// A word is what one lane of a multiply-add takes of the depth k: one f32, or two consecutive bf16. A panel of P lanes (rows of op(a) or
// columns of op(b)) is packed as [words][P]: word w of all lanes, then word w + 1. (AMX alone packs a as [words / 16][P][16].)
inline constexpr int kWordBytes = 4;
// tile_columns fetches rows of b so many words ahead.
inline constexpr int kAheadWords = 8;

// One panel of an operand. Lane l, element k stands at from[l * ld + k] when k_contiguous, else at from[k * ld + l]. With `rows`, at
// rows[l][k] or rows[k][l]; a null row is zeros.
struct PackArgs {
  const void* from = nullptr;
  std::int64_t ld = 0;  // elements
  const char* const* rows = nullptr;
  bool k_contiguous = false;
  bool bf16 = false;       // type of the source; else f32
  std::int64_t lanes = 0;  // <= P; the others are zero or, in a, anything
  std::int64_t depth = 0;  // elements
  std::int64_t words = 0;  // written for each lane: those beyond the depth are zero
  void* to = nullptr;      // 64-byte aligned; up to 64 bytes beyond the panel are overwritten too
};

// Rows of a that stand `distance` bytes apart.
struct RowGroup {
  const char* first = nullptr;
  std::int64_t distance = 0;
};

// c[rows][cols] = (or, with add, +=) A panel times B panel.
struct TileArgs {
  const void* a = nullptr;
  const void* b = nullptr;
  std::int64_t words = 0;
  float* c = nullptr;
  std::int64_t ld = 0;  // floats
  int rows = 0, cols = 0;
  bool add = false;
  // For kernels that round: bf16, written in place of c; not with add.
  char* rounded = nullptr;
  std::int64_t rounded_ld = 0;  // elements
  // What tile_rows reads instead of a: rows where they lie, [pieces][P] addresses. A piece is run_words deep, the first one first_words.
  const char* const* a_rows = nullptr;
  std::int64_t first_words = 0, run_words = 0;
  // In their place for kernels with group_rows: [pieces][P / group_rows]. Of the first piece, skip_words stand before the tile's.
  const RowGroup* a_groups = nullptr;
  std::int64_t skip_words = 0;
  // What tile_columns reads instead of b: for each element of depth, the address of a row, of which the P columns from b_offset bytes on
  // are taken. Addresses of kAheadWords words follow, to be fetched only.
  const char* const* b_elements = nullptr;
  std::int64_t b_offset = 0;
  // Memory that the next tiles will read: fetched into the second-level cache meanwhile. May be null.
  const char* soon = nullptr;
  std::int64_t soon_bytes = 0;
};

// A matrix that an epilogue reads or writes; absent when data is null.
struct EpilogueOperand {
  void* data = nullptr;
  std::int64_t ld = 0;  // elements
  bool bf16 = false;    // else f32
};

// sum[rows][cols] to c, with everything that is added on the way, in this order:
//   s = sum (+ c);  s *= scale;  s += bias;  pre = s;  s = GELU(s rounded to c's type);  s *= GELU'(gelu_input);  s += residual;
//   s = max(s, 0) if relu, a NaN staying one;  c = s
struct EpilogueArgs {
  const float* sum = nullptr;  // may be c
  std::int64_t sum_ld = 0;
  int rows = 0, cols = 0;
  EpilogueOperand c;
  bool add_c = false;
  EpilogueOperand scale, bias;  // one row
  bool gelu = false, relu = false;
  EpilogueOperand pre, gelu_input, residual;
};

struct MicroKernel {
  const char* name = "";         // "avx512"
  int rows = 0, cols = 0;        // of a full tile: P of a and of b
  bool pairs = false;            // a word is two bf16; else one f32
  bool rounds = false;           // tiles can be written in bf16, to the bits that the epilogue would give
  bool even_rows = false;        // a tile of fewer rows costs less: rows are cut evenly
  std::int64_t word_unit = 1;    // words are padded to a multiple of this
  std::int64_t run_unit = 1;     // words of a part of the depth that is packed apart begin at a multiple of this
  std::int64_t block_words = 0;  // at most so many words are summed before c is read and written again
  void (*pack_a)(const PackArgs&) = nullptr;
  void (*pack_b)(const PackArgs&) = nullptr;
  void (*tile)(const TileArgs&) = nullptr;
  // The same from operands that are not packed; null: there is none. rows: elements of a stand as words do, depth contiguous. columns:
  // full panels of b of the type that a word is made of, lanes contiguous.
  void (*tile_rows)(const TileArgs&) = nullptr;
  int group_rows = 0;  // tile_rows takes groups of so many rows, at even distances within each; 0: every row by its address
  void (*tile_columns)(const TileArgs&) = nullptr;
  void (*epilogue)(const EpilogueArgs&) = nullptr;
  // Around all tiles that a thread computes in one call; null: nothing to do.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;
  // Floating-point operations done by this many rounds of a loop on registers. sink: 64 bytes of zeros, written.
  double (*peak)(std::int64_t rounds, float* sink) = nullptr;
};

// f32 words; bf16 operands are widened while they are packed.
const MicroKernel& PortableKernel();  // SSE2: any x86-64
const MicroKernel& Avx2Kernel();
const MicroKernel& Avx512Kernel();
// bf16 pairs; both take the same packed b.
const MicroKernel& Avx512Bf16Kernel();
const MicroKernel& AmxKernel();

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_MICRO_MICRO_KERNEL_H_
