// The passes over one row of logits that the cross-entropies share; the row stays in the second-level cache between them.
#ifndef LYCIA_KERNELS_LOSS_LOSS_ROW_H_
#define LYCIA_KERNELS_LOSS_LOSS_ROW_H_

#include <cstdint>
#include <limits>

#include "kernels/cpu/vector_loop.h"
#include "kernels/cpu/vector_math.h"

namespace lycia::cpu {

// -infinity for an empty row; of a row with a NaN some number, and its ExpSum is NaN. Four running maxima, so that a comparison need not
// wait for the one before.
template <typename V, typename T>
LYCIA_INLINE inline Element<V> LargestLogit(const T* row, std::int64_t size) {
  constexpr int L = kLanes<V>;
  constexpr Element<V> kLowest = -std::numeric_limits<Element<V>>::infinity();
  V largest[4] = {Broadcast<V>(kLowest), Broadcast<V>(kLowest), Broadcast<V>(kLowest), Broadcast<V>(kLowest)};
  std::int64_t i = 0;
  for (; i + 4 * L <= size; i += 4 * L) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) largest[part] = Max(largest[part], LoadAs<V>(row + i + part * L));
  }
  ForEachVector<V>(size - i, [&](auto lanes) LYCIA_INLINE { largest[0] = Max(largest[0], lanes.Get(row + i, kLowest)); });
  return LargestOf(Max(Max(largest[0], largest[1]), Max(largest[2], largest[3])));
}

// Sum of exp(logit - largest); of a row with a NaN, whose largest may be too small, NaN whatever the others give.
template <typename V, typename T>
LYCIA_INLINE inline Element<V> ExpSum(const T* row, std::int64_t size, Element<V> largest) {
  return SumVectors<V>(size, [&](auto lanes) LYCIA_INLINE { return Exp<V, true>(lanes.Get(row) - largest); });
}

// gradient = scale (softmax - onehot): exp(logit - largest) * scale / sum, less scale at `label`, if that is in [0, size). May be the row.
template <typename V, typename T, typename G>
LYCIA_INLINE inline void WriteLossGradient(const T* row, std::int64_t size, Element<V> largest, double sum, std::int64_t label,
                                           double scale, G* gradient) {
  using A = Element<V>;
  const bool labelled = label >= 0 && label < size;
  const A factor = static_cast<A>(scale / sum), at_label = labelled ? static_cast<A>(row[label]) : A(0);
  ForEachVector<V>(size, [&](auto lanes) LYCIA_INLINE { lanes.Put(gradient, Exp<V, true>(lanes.Get(row) - largest) * factor); });
  if (!labelled) return;
  const V softmax = Exp<V, true>(Broadcast<V>(at_label - largest)) * factor;  // again, since the one in the gradient may be rounded
  gradient[label] = static_cast<G>(softmax[0] - static_cast<A>(scale));
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_LOSS_LOSS_ROW_H_
