// What the norms on the CPU share: the shapes of their rows, and column sums over rows for gradients of gamma and beta.
#ifndef LYCIA_KERNELS_NORM_NORM_ROWS_H_
#define LYCIA_KERNELS_NORM_NORM_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/vector_loop.h"
#include "runtime/core/tensor.h"

namespace lycia::cpu {

struct RowShape {
  std::int64_t rows, features;
};

// Rows of `in`; CHECKs that a tensor of one number a row has as many.
inline RowShape RowShapeOf(const ConstTensor& in, const ConstTensor& statistic) {
  const ConstMatrix matrix = AsMatrix(in);
  LYCIA_CHECK_GT(matrix.cols, 0);
  LYCIA_CHECK_EQ(statistic.elements(), matrix.rows);
  return {matrix.rows, matrix.cols};
}

// Rows summed in registers before they join the total: short sums first keep the rounding error of f32 near sqrt(rows), not rows.
inline constexpr std::int64_t kRowsAtOnce = 64;
// Vectors of features side by side: whole cache lines, two or more of each row, so that memory is read in runs.
inline constexpr int kVectorsAtOnce = 4;

// For features [first, first + kVectors * lanes): totals[s][v] of term(r, Lanes)[s] over all rows, kSums of them.
template <int kSums, typename V, bool kWhole, int kVectors, typename Term>
LYCIA_INLINE inline void SumRows(std::int64_t rows, std::int64_t first, std::int64_t count, const Term& term,
                                 V (&totals)[kSums][kVectors]) {
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    V sums[kSums][kVectors] = {};
    for (std::int64_t r = begin; r < std::min(begin + kRowsAtOnce, rows); ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        V terms[kSums];
        term(r, Lanes<V, kWhole>{first + v * kLanes<V>, count}, terms);
        for (int s = 0; s < kSums; ++s) sums[s][v] += terms[s];
      }
    }
    for (int s = 0; s < kSums; ++s) {
      for (int v = 0; v < kVectors; ++v) totals[s][v] += sums[s][v];
    }
  }
}

template <int kSums, typename V, bool kWhole, int kVectors, typename Term>
LYCIA_INLINE inline void AddColumns(std::int64_t rows, std::int64_t first, std::int64_t count, const Term& term,
                                    Element<V>* const (&to)[kSums]) {
  V totals[kSums][kVectors] = {};
  SumRows<kSums, V, kWhole, kVectors>(rows, first, count, term, totals);
  for (int s = 0; s < kSums; ++s) {
    for (int v = 0; v < kVectors; ++v) {
      const Lanes<V, kWhole> lanes{first + v * kLanes<V>, count};
      lanes.Put(to[s], lanes.Get(to[s]) + totals[s][v]);
    }
  }
}

// Features [begin, end) of all rows.
struct Columns {
  std::int64_t rows, begin, end;
};

// to[s][c] += sum over rows r of terms[s] at feature c, for all kSums at once; term(r, Lanes, V (&terms)[kSums]) sets them. A feature's sum
// has one order, wherever it lies.
template <int kSums, typename V, typename Term>
LYCIA_INLINE inline void AddColumnSums(const Columns& columns, const Term& term, Element<V>* const (&to)[kSums]) {
  constexpr int L = kLanes<V>;
  std::int64_t c = columns.begin;
  for (; c + kVectorsAtOnce * L <= columns.end; c += kVectorsAtOnce * L) {
    AddColumns<kSums, V, true, kVectorsAtOnce>(columns.rows, c, L, term, to);
  }
  for (; c + L <= columns.end; c += L) AddColumns<kSums, V, true, 1>(columns.rows, c, L, term, to);
  if (c < columns.end) AddColumns<kSums, V, false, 1>(columns.rows, c, columns.end - c, term, to);
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_NORM_NORM_ROWS_H_
