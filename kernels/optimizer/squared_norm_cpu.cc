#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/optimizer/squared_norm.h"

namespace lycia::cpu {
void SquaredNormBlocks(Stream& stream, const SquaredNormArgs& args) {
  DispatchFloat(args.x.dtype, [&]<typename T>() {
    const T* x = args.x.as<T>();
    const std::int64_t n = args.x.elements();
    const Work work{.count = NumSquaredNormBlocks(n), .bytes_each = kSquaredNormBlock * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<double, decltype(isa)::value>;
        for (std::int64_t block = begin; block < end; ++block) {
          const T* values = x + block * kSquaredNormBlock;
          const std::int64_t count = std::min(kSquaredNormBlock, n - block * kSquaredNormBlock);
          args.block_sums[block] = SumVectors<V>(count, [&](auto lanes) LYCIA_INLINE {
            const V wide = lanes.Get(values);
            return wide * wide;
          });
        }
      });
    });
  });
}

}  // namespace lycia::cpu
