// bf16 with f32 sums on AMX tiles: registers of 16 rows x 64 bytes. Tile of c: 32 x 32, four tile registers; two hold a, two b. A step of
// 32 elements of depth loads 4 KiB and multiplies four times, 64 cycles at the unit's best: both operands from the second-level cache would
// need 64 bytes a cycle, twice what it gives, so the b panel (32 columns x at most 512 elements, 32 KiB) is to stay in the first level
// while the a panels stream by, prefetched. Sums of one element are chained through c over the whole depth, from c with add, else from
// zero. Rows of a at even distances, as neighbouring pixels stand, are loaded where they lie: base and stride are the instruction's own.
//
// AMX counts subnormal operands and results as zero and rounds to nearest even, whatever MXCSR says. The tile configuration is hard-wired
// to palette 1, which every processor with AMX has: some virtual machines hide the CPUID leaf that describes it.
#include <immintrin.h>

#include "kernels/gemm/micro/avx512.h"
#include "kernels/gemm/micro/epilogue.h"
#include "kernels/gemm/micro/tile.h"

namespace lycia::cpu {
namespace {

constexpr int kSide = 32;                                // rows and columns of a tile of c
constexpr int kTileRows = 16;                            // of a register
constexpr int kTileBytes = 64;                           // of a register's row: 16 f32 or 32 bf16
constexpr std::int64_t kStepWords = 16;                  // of depth that one multiply takes
constexpr std::int64_t kStepBytes = kSide * kTileBytes;  // of a panel
// Rows of a are fetched so many steps of the multiply ahead: some 130 cycles.
constexpr std::int64_t kAheadSteps = 2;

struct alignas(64) TileConfiguration {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};

// Constant: GCC 12's intrinsic tells the compiler of its first 8 bytes only, so that stores to the others would be dropped.
constexpr TileConfiguration kConfiguration = {
    .palette = 1,
    .row_bytes = {kTileBytes, kTileBytes, kTileBytes, kTileBytes, kTileBytes, kTileBytes, kTileBytes, kTileBytes},
    .rows = {kTileRows, kTileRows, kTileRows, kTileRows, kTileRows, kTileRows, kTileRows, kTileRows}};

void Begin() { _tile_loadconfig(&kConfiguration); }
void End() { _tile_release(); }

// Fetches the 16 rows that a register will be loaded from.
LYCIA_INLINE inline void Fetch(const char* first, std::int64_t distance) {
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) _mm_prefetch(first + i * distance, _MM_HINT_T0);
}

// The two registers of b hold words [16][16] of the packed panel, whose rows are 32 words apart. With kGroups a's registers are loaded from
// t.a_groups, piece by piece of the depth, else from the panel t.a.
template <bool kTwoRows, bool kGroups>
LYCIA_INLINE inline void Multiply(const TileArgs& t, float* c, std::int64_t ld_bytes, bool add) {
  const char* b = static_cast<const char*>(t.b);
  constexpr int kStride = kSide * kWordBytes;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);  // GCC 12's tile loads do not say that they read memory: stores must not sink below them
  char* c0 = reinterpret_cast<char*>(c);
  char* c1 = c0 + kTileRows * ld_bytes;
  if (add) {
    _tile_loadd(0, c0, ld_bytes);
    _tile_loadd(1, c0 + kTileBytes, ld_bytes);
    if constexpr (kTwoRows) {
      _tile_loadd(2, c1, ld_bytes);
      _tile_loadd(3, c1 + kTileBytes, ld_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const char* soon = t.soon;
  const std::int64_t steps = t.words / kStepWords;
  const std::int64_t soon_lines = soon == nullptr || steps == 0 ? 0 : t.soon_bytes / (64 * steps);
  // Rows 0 to 15 and 16 to 31 of a: one step, the distance of rows, and what is fetched meanwhile, kAheadSteps ahead.
  constexpr std::int64_t kNext = kGroups ? kTileBytes : kStepBytes, kAhead = kAheadSteps * kNext;
  const auto* panel = static_cast<const char*>(t.a);
  RowGroup low = {panel, kTileBytes}, high = {panel + kTileRows * kTileBytes, kTileBytes};
  const RowGroup* groups = t.a_groups;
  std::int64_t piece = steps;
  if constexpr (kGroups) {
    low = {groups[0].first + t.skip_words * kWordBytes, groups[0].distance};
    high = {groups[1].first + t.skip_words * kWordBytes, groups[1].distance};
    if (t.first_words < t.words) piece = t.first_words / kStepWords;
  }
  for (std::int64_t left = steps; left > 0;) {
    for (std::int64_t s = 0; s < piece; ++s) {
      RowGroup next_low = {low.first + kAhead, low.distance}, next_high = {high.first + kAhead, high.distance};
      if (kGroups && s + kAheadSteps >= piece && piece < left) {  // the next piece's
        const std::int64_t at = (s + kAheadSteps - piece) * kTileBytes;
        next_low = {groups[2].first + at, groups[2].distance};
        next_high = {groups[3].first + at, groups[3].distance};
      }
      _tile_loadd(6, b, kStride);
      _tile_loadd(4, low.first, low.distance);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, b + kTileBytes, kStride);
      _tile_dpbf16ps(1, 4, 7);
      Fetch(next_low.first, next_low.distance);
      if constexpr (kTwoRows) {
        _tile_loadd(5, high.first, high.distance);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        Fetch(next_high.first, next_high.distance);
      }
      for (std::int64_t i = 0; i < soon_lines; ++i, soon += 64) _mm_prefetch(soon, _MM_HINT_T1);
      low.first += kNext;
      high.first += kNext;
      b += kStepWords * kStride;
    }
    left -= piece;
    if constexpr (kGroups) {
      if (left == 0) break;
      groups += 2;
      low = groups[0];
      high = groups[1];
      const std::int64_t run = t.run_words / kStepWords;
      piece = left < run ? left : run;
    }
  }
  _tile_stored(0, c0, ld_bytes);
  _tile_stored(1, c0 + kTileBytes, ld_bytes);
  if constexpr (kTwoRows) {
    _tile_stored(2, c1, ld_bytes);
    _tile_stored(3, c1 + kTileBytes, ld_bytes);
  }
}

template <bool kGroups>
void Tile(const TileArgs& t) {
  if (t.rows == kSide && t.cols == kSide) return Multiply<true, kGroups>(t, t.c, t.ld * 4, t.add);
  // Registers have no masks: a part of a tile goes by a copy.
  alignas(64) float copy[kSide * kSide];
  const int first = t.cols < 16 ? t.cols : 16, second = t.cols - first;
  const int used_rows = t.rows <= kTileRows ? kTileRows : kSide;
  if (t.add) {
    for (int r = 0; r < used_rows; ++r) {
      const bool there = r < t.rows;
      Avx512::Store(copy + r * kSide, there ? Avx512::LoadPart(t.c + r * t.ld, first) : Avx512::Zero());
      Avx512::Store(copy + r * kSide + 16, there && second > 0 ? Avx512::LoadPart(t.c + r * t.ld + 16, second) : Avx512::Zero());
    }
  }
  if (used_rows == kSide) {
    Multiply<true, kGroups>(t, copy, kSide * 4, t.add);
  } else {
    Multiply<false, kGroups>(t, copy, kSide * 4, t.add);
  }
  for (int r = 0; r < t.rows; ++r) {
    Avx512::StorePart(t.c + r * t.ld, Avx512::Load(copy + r * kSide), first);
    if (second > 0) Avx512::StorePart(t.c + r * t.ld + 16, Avx512::Load(copy + r * kSide + 16), second);
  }
}

// [words / 16][32 rows][16 words].
void PackA(const PackArgs& args) {
  using Source = Avx512::PairSource;
  const char* from = static_cast<const char*>(args.from);
  char* to = static_cast<char*>(args.to);
  const std::int64_t ld = args.ld * 2;
  for (std::int64_t w = 0; w < args.words; w += kStepWords, to += kStepBytes) {
    const std::int64_t left = args.depth - 2 * w;  // elements
    if (args.k_contiguous) {
      for (std::int64_t r = 0; r < kSide; ++r) {
        const char* row = nullptr;
        if (r < args.lanes && left > 0) row = args.rows != nullptr ? args.rows[r] : from + r * ld;
        Avx512::StoreWords(to + r * kTileBytes, row != nullptr ? Source::Along(row + w * 4, left) : Avx512::NoWords());
      }
      continue;
    }
    for (int half = 0; half < kSide; half += 16) {
      const std::int64_t lanes = args.lanes - half;
      __m512i x[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        const std::int64_t element = 2 * (w + i);
        const auto row = [&](std::int64_t k) -> const char* {
          if (lanes <= 0 || k >= args.depth) return nullptr;
          const char* at = args.rows != nullptr ? args.rows[k] : from + k * ld;
          return at == nullptr ? nullptr : at + half * 2;
        };
        x[i] = Source::AcrossRows(row(element), row(element + 1), lanes < 16 ? static_cast<int>(lanes) : 16);
      }
      Avx512::Transpose(x);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) Avx512::StoreWords(to + (half + i) * kTileBytes, x[i]);
    }
  }
}

// Four chains, as in a tile of c.
double Peak(std::int64_t rounds, float* sink) {
  Begin();
  __atomic_signal_fence(__ATOMIC_SEQ_CST);  // as in Multiply
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, sink, 0);
  _tile_loadd(5, sink, 0);
  _tile_loadd(6, sink, 0);
  _tile_loadd(7, sink, 0);
  for (std::int64_t r = 0; r < rounds; ++r) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sink, 0);
  End();
  return static_cast<double>(rounds) * 4 * 2 * kTileRows * 16 * 32;
}

constexpr MicroKernel kKernel = {.name = "amx_bf16",
                                 .rows = kSide,
                                 .cols = kSide,
                                 .pairs = true,
                                 .word_unit = kStepWords,
                                 .run_unit = kStepWords,
                                 .block_words = 256,
                                 .pack_a = PackA,
                                 .pack_b = PackPanel<Avx512, Avx512::PairSource, kSide>,
                                 .tile = Tile<false>,
                                 .tile_rows = Tile<true>,
                                 .group_rows = kTileRows,
                                 .epilogue = Epilogue<Avx512>,
                                 .begin = Begin,
                                 .end = End,
                                 .peak = Peak};

}  // namespace

const MicroKernel& AmxKernel() { return kKernel; }

}  // namespace lycia::cpu
