// GatherRows, SegmentSum and ScatterRows on CUDA: a thread takes up to 16 bytes of columns of one row of the result (kernels/cuda/map.cuh),
// so that no two threads write one element and a cluster's members are added in the order of the rows. The number of clusters is read from
// device memory: threads of rows beyond it leave. Bytes moved: the rows read and written, once, and the map. Bound by memory bandwidth
// where clusters are many; a few clusters of thousands of members leave most threads idle. Share of the bandwidth: not yet run.
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/map.cuh"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/scatter.h"

namespace lycia::cuda {
namespace {

void CheckRows(const IndexMap& map, std::int64_t rows, std::int64_t cols, std::int64_t to_cols) {
  LYCIA_CHECK(rows == map.extent && cols == to_cols)
      << "[" << rows << ", " << cols << "] for " << to_cols << " columns of " << map.ToString() << " ";
}

// T: what bits are copied as.
template <typename T>
struct GatherMap {
  static constexpr int kVector = kWidestAccess / static_cast<int>(sizeof(T));
  const std::int32_t *size, *representatives;
  const T* x;
  T* to;
  std::int64_t x_ld, to_ld;
  template <int V>
  __device__ void Run(std::int64_t j, std::int64_t col) const {
    if (j >= *size) return;
    *reinterpret_cast<Pack<T, V>*>(to + j * to_ld + col) = *reinterpret_cast<const Pack<T, V>*>(x + representatives[j] * x_ld + col);
  }
};

template <typename S, typename To>
struct SegmentSumMap {
  using A = Arithmetic<S>;
  static constexpr int kVector = kWidest<To>;
  const std::int32_t *size, *members, *offsets;
  const S* dy;
  To* to;
  std::int64_t ld, to_ld;
  bool mean;
  template <int V>
  __device__ void Run(std::int64_t j, std::int64_t col) const {
    if (j >= *size) return;
    const int begin = offsets[j], end = offsets[j + 1];
    Values<A, V> sum = Load<V>(dy + members[begin] * ld + col);
    for (int i = begin + 1; i < end; ++i) {
      const Values<A, V> row = Load<V>(dy + members[i] * ld + col);
#pragma unroll
      for (int k = 0; k < V; ++k) sum[k] += row[k];
    }
    if (mean) {
#pragma unroll
      for (int k = 0; k < V; ++k) sum[k] /= static_cast<A>(end - begin);
    }
    Store<V>(to + j * to_ld + col, sum);
  }
};

template <typename T>
struct CopyMap {
  static constexpr int kVector = kWidestAccess / static_cast<int>(sizeof(T));
  const std::int32_t* ids;
  const T* c;
  T* y;
  std::int64_t c_ld, y_ld;
  template <int V>
  __device__ void Run(std::int64_t m, std::int64_t col) const {
    *reinterpret_cast<Pack<T, V>*>(y + m * y_ld + col) = *reinterpret_cast<const Pack<T, V>*>(c + ids[m] * c_ld + col);
  }
};

// C: of c, which may be wider than S, of the rest.
template <typename C, typename S, bool kMean>
struct ScatterMap {
  using A = Arithmetic<S>;
  static constexpr int kVector = kMean ? kWidest<C> / 2 : kWidest<C>;  // divisions take registers
  const std::int32_t *ids, *counts;
  const C* c;
  const S* residual;
  S* y;
  std::int64_t c_ld, residual_ld, y_ld;
  template <int V>
  __device__ void Run(std::int64_t m, std::int64_t col) const {
    const int j = ids[m];
    Values<A, V> v = Load<V>(c + j * c_ld + col);
    if constexpr (kMean) {
      const A divisor = static_cast<A>(counts[j]);
#pragma unroll
      for (int k = 0; k < V; ++k) v[k] /= divisor;
    }
    if (residual != nullptr) {
      const Values<A, V> add = Load<V>(residual + m * residual_ld + col);
#pragma unroll
      for (int k = 0; k < V; ++k) v[k] += add[k];
    }
    Store<V>(y + m * y_ld + col, v);
  }
};

template <typename C, typename S, bool kMean>
void LaunchScatter(Stream& stream, const ScatterRowsArgs& args) {
  const ScatterMap<C, S, kMean> f{args.map.ids,
                                  args.map.counts,
                                  static_cast<const C*>(args.c.data),
                                  static_cast<const S*>(args.residual.data),
                                  static_cast<S*>(args.y.data),
                                  args.c.ld,
                                  args.residual.ld,
                                  args.y.ld};
  LaunchMap(stream, "ScatterRows", args.y.rows, args.y.cols, {Rows(f.c, f.c_ld), Rows(f.residual, f.residual_ld), Rows(f.y, f.y_ld)}, f);
}

// f<T>() with an unsigned type of so many bytes.
template <typename F>
void DispatchBits(std::int64_t bytes, const F& f) {
  if (bytes == 2) return f.template operator()<std::uint16_t>();
  if (bytes == 8) return f.template operator()<std::uint64_t>();
  LYCIA_CHECK_EQ(bytes, 4);
  f.template operator()<std::uint32_t>();
}

}  // namespace

void GatherRows(Stream& stream, const GatherRowsArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "GatherRows")) return;
  CheckRows(args.map, args.x.rows, args.x.cols, args.to.cols);
  LYCIA_CHECK(args.to.dtype == args.x.dtype) << "rows of " << Name(args.x.dtype) << " to " << Name(args.to.dtype) << " ";
  DispatchBits(SizeOf(args.x.dtype), [&]<typename T>() {
    const GatherMap<T> f{
        args.map.size, args.map.representatives, static_cast<const T*>(args.x.data), static_cast<T*>(args.to.data), args.x.ld, args.to.ld};
    LaunchMap(stream, "GatherRows", args.to.rows, args.to.cols, {Rows(f.x, f.x_ld), Rows(f.to, f.to_ld)}, f);
  });
}

void SegmentSum(Stream& stream, const SegmentSumArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "SegmentSum")) return;
  CheckRows(args.map, args.dy.rows, args.dy.cols, args.to.cols);
  const DType dtype = args.dy.dtype;
  LYCIA_CHECK(args.to.dtype == dtype || args.to.dtype == ArithmeticDType(dtype))
      << "sums of " << Name(dtype) << " as " << Name(args.to.dtype) << " ";
  DispatchAnyStored(dtype, [&]<typename S>() {
    DispatchAnyStored(args.to.dtype, [&]<typename To>() {
      if constexpr (std::is_same_v<S, To> || std::is_same_v<Arithmetic<S>, To>) {
        const SegmentSumMap<S, To> f{
            args.map.size, args.map.members, args.map.offsets, static_cast<const S*>(args.dy.data), static_cast<To*>(args.to.data),
            args.dy.ld,    args.to.ld,       args.mean};
        LaunchMap(stream, "SegmentSum", args.to.rows, args.to.cols, {Rows(f.dy, f.ld), Rows(f.to, f.to_ld)}, f);
      }
    });
  });
}

void ScatterRows(Stream& stream, const ScatterRowsArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "ScatterRows")) return;
  CheckRows(args.map, args.y.rows, args.c.cols, args.y.cols);
  const bool wide = SizeOf(args.y.dtype) == 2 && args.c.dtype == DType::kF32 && args.residual.data != nullptr;
  LYCIA_CHECK(args.c.dtype == args.y.dtype || wide) << Name(args.c.dtype) << " to " << Name(args.y.dtype) << " ";
  if (args.residual.data != nullptr) {
    CheckRows(args.map, args.residual.rows, args.residual.cols, args.y.cols);
    LYCIA_CHECK(args.residual.dtype == args.y.dtype) << "residual is " << Name(args.residual.dtype) << " ";
  }
  if (wide && args.y.dtype == DType::kF16)
    return args.mean ? LaunchScatter<float, Float16, true>(stream, args) : LaunchScatter<float, Float16, false>(stream, args);
  if (wide) return args.mean ? LaunchScatter<float, BFloat16, true>(stream, args) : LaunchScatter<float, BFloat16, false>(stream, args);
  if (args.mean || args.residual.data != nullptr) {
    return DispatchAnyStored(args.y.dtype, [&]<typename S>() {
      return args.mean ? LaunchScatter<S, S, true>(stream, args) : LaunchScatter<S, S, false>(stream, args);
    });
  }
  DispatchBits(SizeOf(args.y.dtype), [&]<typename T>() {
    const CopyMap<T> f{args.map.ids, static_cast<const T*>(args.c.data), static_cast<T*>(args.y.data), args.c.ld, args.y.ld};
    LaunchMap(stream, "ScatterRows", args.y.rows, args.y.cols, {Rows(f.c, f.c_ld), Rows(f.y, f.y_ld)}, f);
  });
}

}  // namespace lycia::cuda
