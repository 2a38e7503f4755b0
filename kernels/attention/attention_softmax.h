// What happens to one strip of scores (one vector of queries, `limit` keys) between the products: mask, online softmax, dropout.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_SOFTMAX_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_SOFTMAX_H_

#include <cstdint>
#include <limits>

#include "kernels/attention/attention_tile.h"
#include "kernels/cpu/random_bits.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/elementwise/dropout.h"

namespace lycia::cpu {

template <typename T>
inline constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

// Writes `value` where the mask hides key k from the query of a lane; scores points at (key 0, lane).
template <typename V, typename T = Element<V>>
LYCIA_INLINE inline void Hide(const KeyTile& keys, std::int64_t lane, std::int64_t limit, T value, T* scores) {
  const MaskOf<V> visible = LaneIndices<V>(lane + keys.visible_to_lane_0);  // how many keys each lane sees, not clamped
  for (std::int64_t k = keys.Visible(lane); k < limit; ++k) {
    const V row = Load<V>(scores + k * kQueryTile);
    const MaskOf<V> hidden = visible <= static_cast<Element<MaskOf<V>>>(k);
    Store<V>(scores + k * kQueryTile, hidden ? Broadcast<V>(value) : row);
  }
}

// Running maximum and sum of the online softmax for kQueryTile queries.
template <typename T>
struct SoftmaxState {
  T* maximum;  // [kQueryTile]; -infinity at first
  T* sum;      // [kQueryTile]; of exp(score - maximum)
};

// scores -> exp(score - maximum); returns exp(old maximum - new maximum), by which everything summed so far must be multiplied.
template <typename V, typename T = Element<V>>
LYCIA_INLINE inline V OnlineSoftmax(const SoftmaxState<T>& state, std::int64_t lane, std::int64_t limit, T* scores) {
  const V before = Load<V>(state.maximum + lane);
  V maximum = before;
  for (std::int64_t k = 0; k < limit; ++k) maximum = Max(maximum, Load<V>(scores + k * kQueryTile));
  // A query that has seen no key yet: exp(-infinity - 0) = 0 instead of NaN.
  const V reference = maximum == kMinusInfinity<T> ? V{} : maximum;
  const V correction = Exp(before - reference);
  V sum{};
  for (std::int64_t k = 0; k < limit; ++k) {
    const V e = Exp(Load<V>(scores + k * kQueryTile) - reference);
    Store<V>(scores + k * kQueryTile, e);
    sum += e;
  }
  Store<V>(state.sum + lane, Load<V>(state.sum + lane) * correction + sum);
  Store<V>(state.maximum + lane, maximum);
  return correction;
}

// 1 / (1 - rate) where the probability of (key, lane) is kept, else 0; factors points at (key 0, lane).
template <Isa isa, typename T>
LYCIA_INLINE inline void DropoutFactors(const AttentionProblem& p, std::int64_t sample, std::int64_t head, const QueryTile& queries,
                                        const KeyTile& keys, std::int64_t lane, std::int64_t limit, T* factors) {
  const AttentionDropout& d = p.dropout;
  const std::uint64_t threshold = DropoutThreshold(d.rate);
  const T keep = static_cast<T>(1 / (1 - d.rate));
  const std::int64_t row = (d.first_sample + sample) * d.total_heads + d.first_head + head;
  RandomRun<kKeyTile> run;
  for (std::int64_t i = 0; i < kLanes<Vector<T, isa>>; ++i) {
    if (queries.begin + lane + i >= queries.end) {  // no query: its products count for nothing, but must not be NaN
      for (std::int64_t k = 0; k < limit; ++k) factors[k * kQueryTile + i] = T(0);
      continue;
    }
    const std::int64_t query = p.first_query + queries.begin + lane + i;
    run.template Make<isa>(d.random, static_cast<std::uint64_t>((row * d.length + query) * d.length + p.first_key + keys.begin), limit);
    for (std::int64_t k = 0; k < limit; ++k) factors[k * kQueryTile + i] = run.bits()[k] >= threshold ? keep : T(0);
  }
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_SOFTMAX_H_
