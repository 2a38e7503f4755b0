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

// One panel of an operand. Lane l, element k stands at from[l * ld + k] when k_contiguous, else at from[k * ld + l].
struct PackArgs {
  const void* from = nullptr;
  std::int64_t ld = 0;  // elements
  bool k_contiguous = false;
  bool bf16 = false;       // type of the source; else f32
  std::int64_t lanes = 0;  // <= P; the others are zero or, in a, anything
  std::int64_t depth = 0;  // elements
  std::int64_t words = 0;  // written for each lane: those beyond the depth are zero
  void* to = nullptr;      // 64-byte aligned; up to 64 bytes beyond the panel are overwritten too
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
//   s = sum (+ c) + bias;  pre = s;  s = GELU(s rounded to c's type);  s *= GELU'(gelu_input);  s += residual;  c = s
struct EpilogueArgs {
  const float* sum = nullptr;  // may be c
  std::int64_t sum_ld = 0;
  int rows = 0, cols = 0;
  EpilogueOperand c;
  bool add_c = false;
  EpilogueOperand bias;  // one row
  bool gelu = false;
  EpilogueOperand pre, gelu_input, residual;
};

struct MicroKernel {
  const char* name = "";         // "avx512"
  int rows = 0, cols = 0;        // of a full tile: P of a and of b
  bool pairs = false;            // a word is two bf16; else one f32
  bool even_rows = false;        // a tile of fewer rows costs less: rows are cut evenly
  std::int64_t word_unit = 1;    // words are padded to a multiple of this
  std::int64_t block_words = 0;  // at most so many words are summed before c is read and written again
  void (*pack_a)(const PackArgs&) = nullptr;
  void (*pack_b)(const PackArgs&) = nullptr;
  void (*tile)(const TileArgs&) = nullptr;
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
