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
  static constexpr int kElementsOfWord = 2;

  // Two rows of 32 columns become words of 2 x 16 columns.
  LYCIA_INLINE static void LoadColumns(const char* const* elements, std::int64_t offset, Float& b0, Float& b1) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3,
                                         34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const __m512i first = _mm512_loadu_si512(elements[0] + offset), second = _mm512_loadu_si512(elements[1] + offset);
    b0 = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, low, second));
    b1 = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, high, second));
    _mm_prefetch(elements[2 * kAheadWords] + offset, _MM_HINT_T0);
    _mm_prefetch(elements[2 * kAheadWords + 1] + offset, _MM_HINT_T0);
  }
  // The machine's own rounding makes subnormals zero, but vdpbf16ps has left none.
  LYCIA_INLINE static void StoreRounded(char* to, const Float& low, const Float& high, int cols) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    if (cols == kCols) return _mm512_storeu_si512(to, both);
    _mm512_mask_storeu_epi16(to, (std::uint32_t{1} << cols) - 1, both);
  }
  LYCIA_INLINE static Float MultiplyAdd(const Float& x, const Float& y, const Float& sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
  }
};

constexpr MicroKernel kKernel = {.name = "avx512_bf16",
                                 .rows = kRows,
                                 .cols = kCols,
                                 .pairs = true,
                                 .rounds = true,
                                 .even_rows = true,
                                 .word_unit = 16,  // as AMX needs, so that both take the same packed b
                                 .block_words = 384,
                                 .pack_a = PackPanel<Avx512Bf16, Avx512::PairSource, kRows>,
                                 .pack_b = PackPanel<Avx512Bf16, Avx512::PairSource, kCols>,
                                 .tile = RegisterTileOfRows<Avx512Bf16, kRows>,
                                 .tile_rows = RegisterTileOfRows<Avx512Bf16, kRows, From::kRowsOfA>,
                                 .tile_columns = RegisterTileOfRows<Avx512Bf16, kRows, From::kColumnsOfB>,
                                 .epilogue = Epilogue<Avx512>,
                                 .peak = PeakLoop<Avx512Bf16, 4>};

}  // namespace

const MicroKernel& Avx512Bf16Kernel() { return kKernel; }

}  // namespace lycia::cpu
