// The register tile and the packing of any vector instruction set, as templates on its operations (sse2.h, avx2.h, avx512.h). Included only
// by the files of one instruction set, inside whose anonymous namespaces the operations live: nothing here is shared by the linker.
//
// Operations "Ops": Float, a vector of kLanes floats, and Words, as many 32-bit words. kUnrolledWords: of the loop over packed panels,
// where a word is so few multiply-adds that the instructions around them show; 1: not unrolled.
#ifndef LYCIA_KERNELS_GEMM_MICRO_TILE_H_
#define LYCIA_KERNELS_GEMM_MICRO_TILE_H_

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {

// Where a tile finds its operands.
enum class From { kPanels, kRowsOfA, kColumnsOfB };

// R rows of two vectors each stay in registers while the panels stream by. Every element is one chain of multiply-adds over the words, from
// zero, whatever R and the position in the matrix: bits do not depend on how a matrix is cut, nor on where operands are read from.
template <typename Ops, int kRows, int R, From kFrom>
void RegisterTile(const TileArgs& t) {
  using V = typename Ops::Float;
  constexpr int L = Ops::kLanes;
  V sum[R][2];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    sum[r][0] = sum[r][1] = Ops::Zero();
    // c is wanted when the loop is done, and is often far away.
    Ops::Prefetch(reinterpret_cast<const char*>(t.c + r * t.ld));
    if constexpr (2 * L * kWordBytes > 64) Ops::Prefetch(reinterpret_cast<const char*>(t.c + r * t.ld + L));
  }
  const char* a = static_cast<const char*>(t.a);
  const char* b = static_cast<const char*>(t.b);
  const char* soon = t.soon;
  const std::int64_t soon_step = t.soon == nullptr || t.words == 0 ? 0 : t.soon_bytes / t.words;
  const char* const* rows = t.a_rows;
  const char* const* elements = t.b_elements;
  const std::int64_t offset = t.b_offset;
  const std::int64_t run_words = kFrom == From::kRowsOfA ? t.run_words : t.words;
  std::int64_t piece = kFrom == From::kRowsOfA && t.first_words < t.words ? t.first_words : t.words;
  for (std::int64_t left = t.words; left > 0;) {
    std::int64_t w = 0;
    if constexpr (kFrom == From::kPanels && Ops::kUnrolledWords > 1) {
      constexpr int kWords = Ops::kUnrolledWords;
      for (; w + kWords <= piece; w += kWords) {
#pragma GCC unroll 8
        for (int i = 0; i < kWords; ++i) {
          const V b0 = Ops::LoadWords(b + 2 * i * L * kWordBytes), b1 = Ops::LoadWords(b + (2 * i + 1) * L * kWordBytes);
#pragma GCC unroll 32
          for (int r = 0; r < R; ++r) {
            const V x = Ops::Spread(a + (i * kRows + r) * kWordBytes);
            sum[r][0] = Ops::MultiplyAdd(x, b0, sum[r][0]);
            sum[r][1] = Ops::MultiplyAdd(x, b1, sum[r][1]);
          }
          Ops::KeepInRegisters(sum);
        }
        Ops::Prefetch(b + Ops::kPrefetchRows * 2 * L * kWordBytes);
        a += kWords * kRows * kWordBytes;
        b += kWords * 2 * L * kWordBytes;
        if (soon_step != 0) {
          Ops::PrefetchFar(soon);
          soon += kWords * soon_step;
        }
      }
    }
    for (; w < piece; ++w) {
      V b0, b1;
      if constexpr (kFrom == From::kColumnsOfB) {
        Ops::LoadColumns(elements, offset, b0, b1);
        elements += Ops::kElementsOfWord;
      } else {
        b0 = Ops::LoadWords(b);
        b1 = Ops::LoadWords(b + L * kWordBytes);
        Ops::Prefetch(b + Ops::kPrefetchRows * 2 * L * kWordBytes);
        if constexpr (2 * L * kWordBytes > 64) Ops::Prefetch(b + Ops::kPrefetchRows * 2 * L * kWordBytes + 64);
        b += 2 * L * kWordBytes;
      }
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) {
        const V x = Ops::Spread(kFrom == From::kRowsOfA ? rows[r] + w * kWordBytes : a + r * kWordBytes);
        sum[r][0] = Ops::MultiplyAdd(x, b0, sum[r][0]);
        sum[r][1] = Ops::MultiplyAdd(x, b1, sum[r][1]);
      }
      if constexpr (kFrom != From::kRowsOfA) a += kRows * kWordBytes;
      if (soon_step != 0) {
        Ops::PrefetchFar(soon);
        soon += soon_step;
      }
    }
    left -= piece;
    piece = left < run_words ? left : run_words;
    if constexpr (kFrom == From::kRowsOfA) rows += kRows;
  }
  if constexpr (requires { Ops::StoreRounded(t.rounded, sum[0][0], sum[0][1], t.cols); }) {
    if (t.rounded != nullptr) {
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) Ops::StoreRounded(t.rounded + r * t.rounded_ld * 2, sum[r][0], sum[r][1], t.cols);
      return;
    }
  }
  // What the stores below might change, for all that the compiler knows.
  float* const c = t.c;
  const std::int64_t ld = t.ld;
  const bool add = t.add;
  if (t.cols == 2 * L) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      float* row = c + r * ld;
      if (add) {
        sum[r][0] = Ops::Add(sum[r][0], Ops::Load(row));
        sum[r][1] = Ops::Add(sum[r][1], Ops::Load(row + L));
      }
      Ops::Store(row, sum[r][0]);
      Ops::Store(row + L, sum[r][1]);
    }
    return;
  }
  const int first = t.cols < L ? t.cols : L, second = t.cols - first;
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
    float* row = c + r * ld;
    if (add) {
      sum[r][0] = Ops::Add(sum[r][0], Ops::LoadPart(row, first));
      if (second > 0) sum[r][1] = Ops::Add(sum[r][1], Ops::LoadPart(row + L, second));
    }
    Ops::StorePart(row, sum[r][0], first);
    if (second > 0) Ops::StorePart(row + L, sum[r][1], second);
  }
}

// The instance for t.rows.
template <typename Ops, int kRows, From kFrom = From::kPanels, int R = kRows>
void RegisterTileOfRows(const TileArgs& t) {
  if (t.rows == R) return RegisterTile<Ops, kRows, R, kFrom>(t);
  if constexpr (R > 1) return RegisterTileOfRows<Ops, kRows, kFrom, R - 1>(t);
}

// One panel of P lanes. Source reads words: Along(p, count) up to kLanes words of one lane from count consecutive elements, and
// Across(p, ld, lanes, elements) one word of each of up to kLanes lanes, of which `elements` (1 or 2) exist. AcrossRows takes the elements
// of a word from two addresses; null: zeros.
template <typename Ops, typename Source, int P, bool kRows>
LYCIA_INLINE inline void PackPanelFrom(const PackArgs& args) {
  constexpr int L = Ops::kLanes, kGroups = (P + L - 1) / L;
  constexpr std::int64_t kElements = Source::kElementsOfWord;
  const char* from = static_cast<const char*>(args.from);
  char* to = static_cast<char*>(args.to);
  const std::int64_t ld = args.ld * Source::kElementBytes;
  if (!args.k_contiguous) {
    for (std::int64_t w = 0; w < args.words; ++w) {
      const std::int64_t left = args.depth - w * kElements;
      const char *first = from + w * kElements * ld, *second = first + ld;
      if constexpr (kRows) {
        first = left > 0 ? args.rows[w * kElements] : nullptr;
        second = left > 1 && kElements > 1 ? args.rows[w * kElements + 1] : nullptr;
      }
      for (int g = 0; g < kGroups; ++g) {
        const std::int64_t lanes = args.lanes - g * L, at = std::int64_t{g} * L * Source::kElementBytes;
        typename Ops::Words x = Ops::NoWords();
        if (left > 0 && lanes > 0) {
          const int count = lanes < L ? static_cast<int>(lanes) : L;
          if constexpr (kRows) {
            x = Source::AcrossRows(first == nullptr ? nullptr : first + at, second == nullptr ? nullptr : second + at, count);
          } else {
            x = Source::Across(first + at, ld, count, left);
          }
        }
        Ops::StoreWords(to + (w * P + g * L) * kWordBytes, x);
      }
    }
    return;
  }
  // Blocks of L words of L lanes are transposed in registers. Groups of a block are stored word by word, so that what a group writes beyond
  // its P lanes is overwritten by the next word.
  for (std::int64_t w = 0; w < args.words; w += L) {
    const std::int64_t left = args.depth - w * kElements, words = args.words - w < L ? args.words - w : L;
    for (int g = 0; g < kGroups; ++g) {
      typename Ops::Words x[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) {
        const int lane = g * L + l;
        const char* row = nullptr;
        if (lane < args.lanes && left > 0) row = kRows ? args.rows[lane] : from + lane * ld;
        x[l] = row != nullptr ? Source::Along(row + w * kElements * Source::kElementBytes, left) : Ops::NoWords();
      }
      Ops::Transpose(x);
      char* row = to + (w * P + g * L) * kWordBytes;
      if (words == L) {
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) Ops::StoreWords(row + i * P * kWordBytes, x[i]);
      } else {
        for (int i = 0; i < words; ++i) Ops::StoreWords(row + i * P * kWordBytes, x[i]);
      }
    }
  }
}
template <typename Ops, typename Source, int P>
LYCIA_INLINE inline void PackPanel(const PackArgs& args) {
  if (args.rows != nullptr) return PackPanelFrom<Ops, Source, P, true>(args);
  PackPanelFrom<Ops, Source, P, false>(args);
}

template <typename Ops, int P>
void PackPanelOfFloats(const PackArgs& args) {
  if (args.bf16) return PackPanel<Ops, typename Ops::WidenedSource, P>(args);
  PackPanel<Ops, typename Ops::FloatSource, P>(args);
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_MICRO_TILE_H_
