// f32 on AVX2 with FMA. Tile: 6 rows x 16 columns in 12 registers; two more hold b, the others the spread a.
#include <immintrin.h>

#include "kernels/cpu/vector.h"
#include "kernels/gemm/micro/epilogue.h"
#include "kernels/gemm/micro/peak_loop.h"
#include "kernels/gemm/micro/tile.h"

namespace lycia::cpu {
namespace {

struct Avx2 {
  using Float = Vector<float, Isa::kAvx2>;
  using Words = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kPrefetchRows = 16;
  static constexpr int kElementsOfWord = 1;
  static constexpr int kUnrolledWords = 4;

  // All bits set in the first `count` lanes.
  LYCIA_INLINE static __m256i First(std::int64_t count) {
    const int n = count > 8 ? 8 : static_cast<int>(count);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  LYCIA_INLINE static Float Zero() { return Float{}; }
  LYCIA_INLINE static Float LoadWords(const char* p) { return _mm256_load_ps(reinterpret_cast<const float*>(p)); }
  LYCIA_INLINE static void LoadColumns(const char* const* elements, std::int64_t offset, Float& b0, Float& b1) {
    const auto* row = reinterpret_cast<const float*>(elements[0] + offset);
    b0 = Load(row);
    b1 = Load(row + kLanes);
    Prefetch(elements[kAheadWords] + offset);
  }
  LYCIA_INLINE static Float Spread(const char* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  LYCIA_INLINE static Float MultiplyAdd(const Float& x, const Float& y, const Float& sum) { return _mm256_fmadd_ps(x, y, sum); }
  LYCIA_INLINE static Float Add(const Float& x, const Float& y) { return x + y; }
  LYCIA_INLINE static Float Load(const float* p) { return _mm256_loadu_ps(p); }
  LYCIA_INLINE static Float LoadPart(const float* p, int count) {
    if (count >= 8) return _mm256_loadu_ps(p);
    return _mm256_maskload_ps(p, First(count));
  }
  LYCIA_INLINE static void Store(float* p, const Float& v) { _mm256_storeu_ps(p, v); }
  LYCIA_INLINE static void StorePart(float* p, const Float& v, int count) {
    if (count >= 8) return _mm256_storeu_ps(p, v);
    _mm256_maskstore_ps(p, First(count), v);
  }
  // Of a whole tile, sums and what they are made of fill the registers; left alone, GCC 12 moves some to the stack in an unrolled loop.
  template <int R>
  LYCIA_INLINE static void KeepInRegisters(Float (&sum)[R][2]) {
    if constexpr (R == 6) {
      asm(""
          : "+x"(sum[0][0]), "+x"(sum[0][1]), "+x"(sum[1][0]), "+x"(sum[1][1]), "+x"(sum[2][0]), "+x"(sum[2][1]), "+x"(sum[3][0]),
            "+x"(sum[3][1]), "+x"(sum[4][0]), "+x"(sum[4][1]), "+x"(sum[5][0]), "+x"(sum[5][1]));
    }
  }
  LYCIA_INLINE static void Prefetch(const char* p) { _mm_prefetch(p, _MM_HINT_T0); }
  LYCIA_INLINE static void PrefetchFar(const char* p) { _mm_prefetch(p, _MM_HINT_T1); }

  LYCIA_INLINE static __m256i Bf16Words(const std::uint16_t* p, std::int64_t count) {
    __m128i half = _mm_setzero_si128();
    if (count >= 8) {
      half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    } else {
      alignas(16) std::uint16_t some[8] = {};
      for (int i = 0; i < count; ++i) some[i] = p[i];
      half = _mm_load_si128(reinterpret_cast<const __m128i*>(some));
    }
    return _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
  }
  LYCIA_INLINE static Float LoadBf16(const std::uint16_t* p, int count) { return _mm256_castsi256_ps(Bf16Words(p, count)); }
  // As in avx512.h.
  LYCIA_INLINE static __m256i Bf16Bits(const Float& v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  }
  LYCIA_INLINE static void StoreBf16(std::uint16_t* p, const Float& v, int count) {
    const __m256i bits = Bf16Bits(v);
    const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    if (count >= 8) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), half);
    alignas(16) std::uint16_t some[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(some), half);
    for (int i = 0; i < count; ++i) p[i] = some[i];
  }
  LYCIA_INLINE static Float RoundToBf16(const Float& v) { return _mm256_castsi256_ps(_mm256_slli_epi32(Bf16Bits(v), 16)); }

  LYCIA_INLINE static Words NoWords() { return _mm256_setzero_si256(); }
  LYCIA_INLINE static void StoreWords(char* p, const Words& w) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), w); }
  LYCIA_INLINE static void Transpose(Words (&x)[8]) {
    Words t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      t[2 * i] = _mm256_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      x[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
      x[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
      x[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
      x[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm256_permute2x128_si256(x[i], x[4 + i], 0x20);
      t[4 + i] = _mm256_permute2x128_si256(x[i], x[4 + i], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) x[i] = t[i];
  }

  struct FloatSource {
    static constexpr std::int64_t kElementBytes = 4, kElementsOfWord = 1;
    LYCIA_INLINE static Words Along(const char* p, std::int64_t elements) {
      if (elements >= 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), First(elements));
    }
    LYCIA_INLINE static Words Across(const char* p, std::int64_t, int lanes, std::int64_t) { return Along(p, lanes); }
    LYCIA_INLINE static Words AcrossRows(const char* p, const char*, int lanes) { return p == nullptr ? NoWords() : Along(p, lanes); }
  };
  struct WidenedSource {
    static constexpr std::int64_t kElementBytes = 2, kElementsOfWord = 1;
    LYCIA_INLINE static Words Along(const char* p, std::int64_t elements) {
      return Bf16Words(reinterpret_cast<const std::uint16_t*>(p), elements);
    }
    LYCIA_INLINE static Words Across(const char* p, std::int64_t, int lanes, std::int64_t) { return Along(p, lanes); }
    LYCIA_INLINE static Words AcrossRows(const char* p, const char*, int lanes) { return p == nullptr ? NoWords() : Along(p, lanes); }
  };
};

constexpr int kRows = 6, kCols = 16;

constexpr MicroKernel kKernel = {.name = "avx2 f32",
                                 .rows = kRows,
                                 .cols = kCols,
                                 .even_rows = true,
                                 .block_words = 512,
                                 .pack_a = PackPanelOfFloats<Avx2, kRows>,
                                 .pack_b = PackPanelOfFloats<Avx2, kCols>,
                                 .tile = RegisterTileOfRows<Avx2, kRows>,
                                 .tile_rows = RegisterTileOfRows<Avx2, kRows, From::kRowsOfA>,
                                 .tile_columns = RegisterTileOfRows<Avx2, kRows, From::kColumnsOfB>,
                                 .epilogue = Epilogue<Avx2>,
                                 .peak = PeakLoop<Avx2, 2>};

}  // namespace

const MicroKernel& Avx2Kernel() { return kKernel; }

}  // namespace lycia::cpu
