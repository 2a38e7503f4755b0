#include <algorithm>

#include "kernels/cpu/vector_loop.h"
#include "kernels/optimizer/squared_norm.h"

namespace lycia::cpu {
namespace {

typedef float HalfVector __attribute__((vector_size(kVectorBytes / 2)));  // as many f32 as a DoubleVector has lanes

// Eight elements as f64.
template <bool kWhole>
LYCIA_INLINE inline DoubleVector Widen(const Lanes<double, kWhole>& lanes, const double* x) {
  return lanes.Get(x);
}
template <bool kWhole>
LYCIA_INLINE inline DoubleVector Widen(const Lanes<double, kWhole>& lanes, const float* x) {
  HalfVector half{};
  if constexpr (kWhole) {
    std::memcpy(&half, x + lanes.first, sizeof half);
  } else {
    for (int i = 0; i < kLanes<double>; ++i) {
      if (i < lanes.count) half[i] = x[lanes.first + i];
    }
  }
  return __builtin_convertvector(half, DoubleVector);
}

}  // namespace

void SquaredNormBlocks(Stream&, const SquaredNormArgs& args) {
  DispatchFloat(args.x.dtype, [&]<typename T>() {
    const T* x = args.x.as<T>();
    const std::int64_t n = args.x.elements();
    ForBestIsa([&]() LYCIA_INLINE {
      for (std::int64_t block = 0; block < NumSquaredNormBlocks(n); ++block) {
        const T* values = x + block * kSquaredNormBlock;
        const std::int64_t count = std::min(kSquaredNormBlock, n - block * kSquaredNormBlock);
        args.block_sums[block] = SumVectors<double>(count, [&](auto lanes) LYCIA_INLINE {
          const DoubleVector wide = Widen(lanes, values);
          return wide * wide;
        });
      }
    });
  });
}

}  // namespace lycia::cpu
