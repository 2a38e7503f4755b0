// Sums of the parts into which a weight gradient's positions are split, in order. Device code.
#ifndef LYCIA_KERNELS_CONV_CONV_SPLITS_CUH_
#define LYCIA_KERNELS_CONV_CONV_SPLITS_CUH_

#include <cstdint>

#include "kernels/cuda/map.cuh"

namespace lycia::cuda {

template <typename A>
struct AddSplits {
  static constexpr int kVector = kWidest<A>;
  const A* partial;  // [splits, elements]
  A* dweight;        // [elements], +=
  std::int64_t elements;
  int splits;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<A, V> sum = Load<V>(dweight + i), all{};
    for (int s = 0; s < splits; ++s) {
      const Values<A, V> part = Load<V>(partial + s * elements + i);
#pragma unroll
      for (int k = 0; k < V; ++k) all[k] += part[k];
    }
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] += all[k];
    Store<V>(dweight + i, sum);
  }
};

template <typename A>
void LaunchAddSplits(Stream& stream, const A* partial, A* dweight, std::int64_t elements, int splits) {
  const AddSplits<A> add{partial, dweight, elements, splits};
  LaunchMap(stream, "ConvBackwardWeight, sums of parts", 1, elements, {Flat(dweight), Rows(partial, elements)}, add);
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_SPLITS_CUH_
