// f32 on SSE2, which every x86-64 processor has. Tile: 4 rows x 8 columns. Multiply and add round one after the other.
#include <emmintrin.h>
#include <xmmintrin.h>

#include "kernels/cpu/vector.h"
#include "kernels/gemm/micro/epilogue.h"
#include "kernels/gemm/micro/peak_loop.h"
#include "kernels/gemm/micro/tile.h"

namespace lycia::cpu {
namespace {

struct Sse2 {
  using Float = Vector<float, Isa::kBaseline>;
  using Words = __m128i;
  static constexpr int kLanes = 4;
  static constexpr int kPrefetchRows = 16;
  static constexpr int kElementsOfWord = 1;
  static constexpr int kUnrolledWords = 1;

  LYCIA_INLINE static Float Zero() { return Float{}; }
  LYCIA_INLINE static Float LoadWords(const char* p) { return _mm_load_ps(reinterpret_cast<const float*>(p)); }
  LYCIA_INLINE static void LoadColumns(const char* const* elements, std::int64_t offset, Float& b0, Float& b1) {
    const auto* row = reinterpret_cast<const float*>(elements[0] + offset);
    b0 = Load(row);
    b1 = Load(row + kLanes);
    Prefetch(elements[kAheadWords] + offset);
  }
  LYCIA_INLINE static Float Spread(const char* p) { return _mm_set1_ps(*reinterpret_cast<const float*>(p)); }
  LYCIA_INLINE static Float MultiplyAdd(const Float& x, const Float& y, const Float& sum) { return sum + x * y; }
  LYCIA_INLINE static Float Add(const Float& x, const Float& y) { return x + y; }
  LYCIA_INLINE static Float Load(const float* p) { return _mm_loadu_ps(p); }
  LYCIA_INLINE static Float LoadPart(const float* p, int count) {
    if (count >= 4) return _mm_loadu_ps(p);
    return LoadPart4(p, count);
  }
  LYCIA_INLINE static Float LoadPart4(const float* p, std::int64_t count) {
    alignas(16) float some[4] = {};
    for (int i = 0; i < 4; ++i) some[i] = i < count ? p[i] : 0.0f;
    return _mm_load_ps(some);
  }
  LYCIA_INLINE static void Store(float* p, const Float& v) { _mm_storeu_ps(p, v); }
  LYCIA_INLINE static void StorePart(float* p, const Float& v, int count) {
    if (count >= 4) return _mm_storeu_ps(p, v);
    for (int i = 0; i < count; ++i) p[i] = v[i];
  }
  LYCIA_INLINE static void Prefetch(const char* p) { _mm_prefetch(p, _MM_HINT_T0); }
  LYCIA_INLINE static void PrefetchFar(const char* p) { _mm_prefetch(p, _MM_HINT_T1); }

  LYCIA_INLINE static Words Bf16Words(const std::uint16_t* p, std::int64_t count) {
    alignas(16) std::uint32_t some[4];
    for (int i = 0; i < 4; ++i) some[i] = i < count ? static_cast<std::uint32_t>(p[i]) << 16 : 0;
    return _mm_load_si128(reinterpret_cast<const __m128i*>(some));
  }
  LYCIA_INLINE static Float LoadBf16(const std::uint16_t* p, int count) { return _mm_castsi128_ps(Bf16Words(p, count)); }
  // As in avx512.h.
  LYCIA_INLINE static Words Bf16Bits(const Float& v) {
    const Words bits = _mm_castps_si128(v);
    const Words odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
    const Words rounded = _mm_add_epi32(bits, _mm_add_epi32(odd, _mm_set1_epi32(0x7FFF)));
    const Words nan = _mm_castps_si128(_mm_cmpunord_ps(v, v));
    const Words quiet = _mm_or_si128(bits, _mm_set1_epi32(0x400000));
    return _mm_srli_epi32(_mm_or_si128(_mm_and_si128(nan, quiet), _mm_andnot_si128(nan, rounded)), 16);
  }
  LYCIA_INLINE static void StoreBf16(std::uint16_t* p, const Float& v, int count) {
    alignas(16) std::uint32_t some[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(some), Bf16Bits(v));
    for (int i = 0; i < count; ++i) p[i] = static_cast<std::uint16_t>(some[i]);
  }
  LYCIA_INLINE static Float RoundToBf16(const Float& v) { return _mm_castsi128_ps(_mm_slli_epi32(Bf16Bits(v), 16)); }

  LYCIA_INLINE static Words NoWords() { return _mm_setzero_si128(); }
  LYCIA_INLINE static void StoreWords(char* p, const Words& w) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), w); }
  LYCIA_INLINE static void Transpose(Words (&x)[4]) {
    const Words a = _mm_unpacklo_epi32(x[0], x[1]), b = _mm_unpackhi_epi32(x[0], x[1]);
    const Words c = _mm_unpacklo_epi32(x[2], x[3]), d = _mm_unpackhi_epi32(x[2], x[3]);
    x[0] = _mm_unpacklo_epi64(a, c);
    x[1] = _mm_unpackhi_epi64(a, c);
    x[2] = _mm_unpacklo_epi64(b, d);
    x[3] = _mm_unpackhi_epi64(b, d);
  }

  struct FloatSource {
    static constexpr std::int64_t kElementBytes = 4, kElementsOfWord = 1;
    LYCIA_INLINE static Words Along(const char* p, std::int64_t elements) {
      return _mm_castps_si128(LoadPart4(reinterpret_cast<const float*>(p), elements));
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

constexpr int kRows = 4, kCols = 8;

constexpr MicroKernel kKernel = {.name = "sse2 f32",
                                 .rows = kRows,
                                 .cols = kCols,
                                 .even_rows = true,
                                 .block_words = 256,
                                 .pack_a = PackPanelOfFloats<Sse2, kRows>,
                                 .pack_b = PackPanelOfFloats<Sse2, kCols>,
                                 .tile = RegisterTileOfRows<Sse2, kRows>,
                                 .tile_rows = RegisterTileOfRows<Sse2, kRows, From::kRowsOfA>,
                                 .tile_columns = RegisterTileOfRows<Sse2, kRows, From::kColumnsOfB>,
                                 .epilogue = Epilogue<Sse2>,
                                 .peak = PeakLoop<Sse2, 2>};

}  // namespace

const MicroKernel& PortableKernel() { return kKernel; }

}  // namespace lycia::cpu
