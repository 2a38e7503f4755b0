#include <algorithm>

#include "kernels/cpu/vector_loop.h"
#include "kernels/optimizer/squared_norm.h"

namespace lycia::cpu {
namespace {

// As many f32 as a vector of f64 has lanes.
template <typename V>
struct Halves {
  typedef float type __attribute__((vector_size(sizeof(V) / 2)));
};

// Elements as f64.
template <typename V, bool kWhole>
LYCIA_INLINE inline V Widen(const Lanes<V, kWhole>& lanes, const double* x) {
  return lanes.Get(x);
}
template <typename V, bool kWhole>
LYCIA_INLINE inline V Widen(const Lanes<V, kWhole>& lanes, const float* x) {
  typename Halves<V>::type half{};
  if constexpr (kWhole) {
    std::memcpy(&half, x + lanes.first, sizeof half);
  } else {
    for (int i = 0; i < kLanes<V>; ++i) {
      if (i < lanes.count) half[i] = x[lanes.first + i];
    }
  }
  return __builtin_convertvector(half, V);
}

}  // namespace

void SquaredNormBlocks(Stream&, const SquaredNormArgs& args) {
  DispatchFloat(args.x.dtype, [&]<typename T>() {
    const T* x = args.x.as<T>();
    const std::int64_t n = args.x.elements();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<double, decltype(isa)::value>;
      for (std::int64_t block = 0; block < NumSquaredNormBlocks(n); ++block) {
        const T* values = x + block * kSquaredNormBlock;
        const std::int64_t count = std::min(kSquaredNormBlock, n - block * kSquaredNormBlock);
        args.block_sums[block] = SumVectors<V>(count, [&](auto lanes) LYCIA_INLINE {
          const V wide = Widen(lanes, values);
          return wide * wide;
        });
      }
    });
  });
}

}  // namespace lycia::cpu
