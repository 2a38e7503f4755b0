#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/parts/bias.h"

namespace lycia::cpu {

void AddBias(Stream& stream, const AddBiasArgs& args) {
  const Matrix matrix = AsMatrix(args.rows);
  LYCIA_CHECK_EQ(args.bias.elements(), matrix.cols);
  DispatchStored(args.rows.dtype, [&]<typename T>() {
    T* rows = args.rows.as<T>();
    const T* bias = args.bias.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<Arithmetic<T>, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          T* row = rows + r * matrix.cols;
          ForEachVector<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE { lanes.Put(row, lanes.Get(row) + lanes.Get(bias)); });
        }
      });
    });
  });
}

}  // namespace lycia::cpu
