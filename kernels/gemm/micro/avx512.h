// Operations on 16 lanes (AVX-512 F, BW, DQ, VL). In an anonymous namespace: see tile.h.
#ifndef LYCIA_KERNELS_GEMM_MICRO_AVX512_H_
#define LYCIA_KERNELS_GEMM_MICRO_AVX512_H_

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/vector.h"
#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {
namespace {

LYCIA_INLINE inline __mmask16 First16(std::int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << count) - 1);
}
LYCIA_INLINE inline __mmask32 First32(std::int64_t count) {
  return count >= 32 ? ~static_cast<__mmask32>(0) : static_cast<__mmask32>((1u << count) - 1);
}

struct Avx512 {
  using Float = Vector<float, Isa::kAvx512>;
  using Words = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kPrefetchRows = 16;  // of b, ahead of the multiply: a few hundred cycles, second-level cache to first
  static constexpr int kElementsOfWord = 1;
  static constexpr int kUnrolledWords = 1;

  LYCIA_INLINE static Float Zero() { return Float{}; }
  LYCIA_INLINE static Float LoadWords(const char* p) { return _mm512_load_ps(reinterpret_cast<const float*>(p)); }
  // Two vectors of one row of b that is not packed.
  LYCIA_INLINE static void LoadColumns(const char* const* elements, std::int64_t offset, Float& b0, Float& b1) {
    const char* row = elements[0] + offset;
    b0 = _mm512_loadu_ps(row);
    b1 = _mm512_loadu_ps(row + 64);
    _mm_prefetch(elements[kAheadWords] + offset, _MM_HINT_T0);
    _mm_prefetch(elements[kAheadWords] + offset + 64, _MM_HINT_T0);
  }
  LYCIA_INLINE static Float Spread(const char* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }
  LYCIA_INLINE static Float MultiplyAdd(const Float& x, const Float& y, const Float& sum) { return _mm512_fmadd_ps(x, y, sum); }
  LYCIA_INLINE static Float Add(const Float& x, const Float& y) { return x + y; }
  LYCIA_INLINE static Float Load(const float* p) { return _mm512_loadu_ps(p); }
  LYCIA_INLINE static Float LoadPart(const float* p, int count) { return _mm512_maskz_loadu_ps(First16(count), p); }
  LYCIA_INLINE static void Store(float* p, const Float& v) { _mm512_storeu_ps(p, v); }
  LYCIA_INLINE static void StorePart(float* p, const Float& v, int count) { _mm512_mask_storeu_ps(p, First16(count), v); }
  LYCIA_INLINE static void Prefetch(const char* p) { _mm_prefetch(p, _MM_HINT_T0); }
  LYCIA_INLINE static void PrefetchFar(const char* p) { _mm_prefetch(p, _MM_HINT_T1); }

  // bf16 is the upper half of an f32.
  LYCIA_INLINE static Float LoadBf16(const std::uint16_t* p, int count) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(First16(count), p)), 16));
  }
  // Nearest, ties to even: half of the last place, less one unless the result would be odd, is added. A NaN keeps its upper bits and is
  // made quiet.
  LYCIA_INLINE static __m512i Bf16Bits(const Float& v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_srli_epi32(_mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000)), 16);
  }
  LYCIA_INLINE static void StoreBf16(std::uint16_t* p, const Float& v, int count) {
    _mm256_mask_storeu_epi16(p, First16(count), _mm512_cvtepi32_epi16(Bf16Bits(v)));
  }
  LYCIA_INLINE static Float RoundToBf16(const Float& v) { return _mm512_castsi512_ps(_mm512_slli_epi32(Bf16Bits(v), 16)); }

  LYCIA_INLINE static Words NoWords() { return _mm512_setzero_si512(); }
  LYCIA_INLINE static void StoreWords(char* p, const Words& w) { _mm512_storeu_si512(p, w); }

  // x[i] word j <-> x[j] word i: words in pairs, pairs in quadruples, then 128-bit quarters.
  LYCIA_INLINE static void Transpose(Words (&x)[16]) {
    Words t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
      x[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
      x[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
      x[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88);
      t[4 + i] = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xDD);
      t[8 + i] = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
      t[12 + i] = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xDD);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      x[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
      x[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xDD);
      x[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
      x[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xDD);
    }
  }

  struct FloatSource {
    static constexpr std::int64_t kElementBytes = 4, kElementsOfWord = 1;
    LYCIA_INLINE static Words Along(const char* p, std::int64_t elements) { return _mm512_maskz_loadu_epi32(First16(elements), p); }
    LYCIA_INLINE static Words Across(const char* p, std::int64_t, int lanes, std::int64_t) {
      return _mm512_maskz_loadu_epi32(First16(lanes), p);
    }
    LYCIA_INLINE static Words AcrossRows(const char* p, const char*, int lanes) { return Along(p, p == nullptr ? 0 : lanes); }
  };
  struct WidenedSource {
    static constexpr std::int64_t kElementBytes = 2, kElementsOfWord = 1;
    LYCIA_INLINE static Words Along(const char* p, std::int64_t elements) {
      return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(First16(elements), p)), 16);
    }
    LYCIA_INLINE static Words Across(const char* p, std::int64_t, int lanes, std::int64_t elements) {
      return Along(p, elements > 0 ? lanes : 0);
    }
    LYCIA_INLINE static Words AcrossRows(const char* p, const char*, int lanes) { return Along(p, p == nullptr ? 0 : lanes); }
  };
  struct PairSource {
    static constexpr std::int64_t kElementBytes = 2, kElementsOfWord = 2;
    LYCIA_INLINE static Words Along(const char* p, std::int64_t elements) { return _mm512_maskz_loadu_epi16(First32(elements), p); }
    LYCIA_INLINE static Words Across(const char* p, std::int64_t ld, int lanes, std::int64_t elements) {
      return AcrossRows(p, elements < 2 ? nullptr : p + ld, lanes);
    }
    // The first of a pair in the lower half. A load whose mask is empty touches nothing.
    LYCIA_INLINE static Words AcrossRows(const char* p, const char* q, int lanes) {
      const __mmask16 there = First16(lanes);
      const Words first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(p == nullptr ? 0 : there, p));
      return _mm512_or_si512(first, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(q == nullptr ? 0 : there, q)), 16));
    }
  };
};

}  // namespace
}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_MICRO_AVX512_H_
