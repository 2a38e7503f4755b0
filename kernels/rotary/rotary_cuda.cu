// Rotary position embedding on CUDA: a thread turns one pack of pairs, up to 16 bytes of each half of a head (kernels/cuda/map.cuh). Bytes
// moved: 2 * rows * heads * D elements; the table stays in the caches. Bound by memory bandwidth; share of it: not yet run (tests/gpu
// measures it). The table is made once, in f64.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/rotary/rotary.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct RotaryTableMap {
  static constexpr int kVector = 1;
  T *cosines, *sines;
  std::int64_t half;
  double base;
  template <int V>
  __device__ void Run(std::int64_t position, std::int64_t i) const {
    const double angle = static_cast<double>(position) * pow(base, -static_cast<double>(i) / static_cast<double>(half));
    cosines[position * half + i] = static_cast<T>(cos(angle));
    sines[position * half + i] = static_cast<T>(sin(angle));
  }
};

// A row of the map is one head of one token, its columns the pairs.
template <typename T>
struct RotaryMap {
  static constexpr int kVector = kWidest<T>;
  using A = Arithmetic<T>;
  T* rows;
  const A *cosines, *sines;
  const std::int32_t* positions;  // null: first_position + t
  std::int64_t heads, half, width, first_feature, tokens, first_position, table;
  A direction;  // 1, or -1 back
  FaultWord* fault;
  template <int V>
  __device__ void Run(std::int64_t token_head, std::int64_t i) const {
    const RowColumn at = SplitIndex(token_head, heads);
    std::int64_t position = 0;
    if (positions == nullptr) {
      position = first_position + SplitIndex(at.row, tokens).column;
    } else {
      position = positions[at.row];
      if (position < 0 || position >= table) {
        *fault = {1, static_cast<int>(position), static_cast<int>(at.row), static_cast<int>(table)};
        return;
      }
    }
    T *first = rows + at.row * width + first_feature + at.column * 2 * half + i, *second = first + half;
    Values<A, V> a = Load<V>(first), b = Load<V>(second);
    const Values<A, V> c = LoadStatistics<V>(cosines + position * half + i), s = LoadStatistics<V>(sines + position * half + i);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const A sine = direction * s[k], x = a[k];
      a[k] = x * c[k] - b[k] * sine;
      b[k] = b[k] * c[k] + x * sine;
    }
    Store<V>(first, a);
    Store<V>(second, b);
  }
};

}  // namespace

void RotaryTable(Stream& stream, const RotaryTableArgs& args) {
  const Matrix matrix = AsMatrix(args.cosines);
  LYCIA_CHECK(args.sines.shape == args.cosines.shape && args.sines.dtype == args.cosines.dtype) << args.sines.shape.ToString() << " ";
  DispatchFloat(args.cosines.dtype, [&]<typename T>() {
    const RotaryTableMap<T> f{args.cosines.as<T>(), args.sines.as<T>(), matrix.cols, args.base};
    LaunchMap(stream, "RotaryTable", matrix.rows, matrix.cols, {Rows(f.cosines, matrix.cols), Rows(f.sines, matrix.cols)}, f);
  });
}

void Rotary(Stream& stream, const RotaryArgs& args) {
  LYCIA_CHECK(args.rows.shape.rank() == 3 && args.cosines.shape.rank() == 2 && args.sines.shape == args.cosines.shape)
      << args.rows.shape.ToString() << " ";
  const std::int64_t T = args.rows.shape[1], width = args.rows.shape[2], count = args.rows.shape[0] * T;
  const std::int64_t table = args.cosines.shape[0], half = args.cosines.shape[1];
  LYCIA_CHECK(args.first_feature + args.heads * 2 * half <= width)
      << args.heads << " heads of " << 2 * half << " in rows of " << width << " ";
  if (args.positions.data != nullptr) {
    LYCIA_CHECK_EQ(args.positions.elements(), count);
  } else {
    LYCIA_CHECK(args.first_position >= 0 && args.first_position + T <= table) << T << " positions of a table of " << table << " ";
  }
  const StreamTarget target = TargetOf(stream);
  DispatchAnyStored(args.rows.dtype, [&]<typename N>() {
    using A = Arithmetic<N>;
    const RotaryMap<N> f{.rows = args.rows.as<N>(),
                         .cosines = args.cosines.as<A>(),
                         .sines = args.sines.as<A>(),
                         .positions = args.positions.data == nullptr ? nullptr : args.positions.as<std::int32_t>(),
                         .heads = args.heads,
                         .half = half,
                         .width = width,
                         .first_feature = args.first_feature,
                         .tokens = T,
                         .first_position = args.first_position,
                         .table = table,
                         .direction = args.inverse ? A(-1) : A(1),
                         .fault = target.faults + static_cast<int>(Fault::kPosition)};
    const N* first = f.rows + args.first_feature;
    // A pack of the table may take two loads: it is aligned to one of 16 bytes, as `half` elements of N tell.
    LaunchMap(stream, "Rotary", count * args.heads, half,
              {Rows(first, width), Rows(first, half), {f.cosines, sizeof(N), half}, {f.sines, sizeof(N), half}}, f);
  });
}

}  // namespace lycia::cuda
