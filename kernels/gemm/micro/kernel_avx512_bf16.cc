// bf16 with f32 sums on AVX512_BF16. The f32 kernel's tile (kernel_avx512.cc), each word a pair of bf16: one vdpbf16ps does two
// multiply-adds a lane, the pair's second product first. Subnormal operands and results count as zero: the instruction ignores MXCSR.
#include "kernels/gemm/micro/avx512.h"
#include "kernels/gemm/micro/epilogue.h"
#include "kernels/gemm/micro/peak_loop.h"
#include "kernels/gemm/micro/tile.h"

namespace lycia::cpu {
namespace {

constexpr int kRows = 14, kCols = 32;

struct Avx512Bf16 : Avx512 {
  LYCIA_INLINE static Float MultiplyAdd(const Float& x, const Float& y, const Float& sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
  }
};

constexpr MicroKernel kKernel = {.name = "avx512_bf16",
                                 .rows = kRows,
                                 .cols = kCols,
                                 .pairs = true,
                                 .even_rows = true,
                                 .word_unit = 16,  // as AMX needs, so that both take the same packed b
                                 .block_words = 384,
                                 .pack_a = PackPanel<Avx512Bf16, Avx512::PairSource, kRows>,
                                 .pack_b = PackPanel<Avx512Bf16, Avx512::PairSource, kCols>,
                                 .tile = RegisterTileOfRows<Avx512Bf16, kRows>,
                                 .epilogue = Epilogue<Avx512>,
                                 .peak = PeakLoop<Avx512Bf16, 4>};

}  // namespace

const MicroKernel& Avx512Bf16Kernel() { return kKernel; }

}  // namespace lycia::cpu
