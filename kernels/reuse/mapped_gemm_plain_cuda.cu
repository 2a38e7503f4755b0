// Mapped products, the plain path: a block computes 64 x 64 of c, 16 of the depth at a time (kernels/conv/conv_plain_tile.cuh), in f32
// (f64) registers, 16 a thread; two tiles of 16 x 68 numbers in shared memory. How many rows, or how much depth, there is, is read from
// device memory: blocks of rows beyond it leave at once. Listed rows are read where they lie. A row of c has the same bits whatever the
// number of rows. Bound by f32 arithmetic: 16 multiply-adds for 8 numbers read from shared memory; share of it: not yet run.
#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/conv/conv_plain_tile.cuh"
#include "kernels/gemm/gemm_epilogue.cuh"
#include "kernels/reuse/mapped_gemm_cuda.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// The narrow type that may stand beside sums of products of T.
template <typename T>
using Beside = std::conditional_t<std::is_same_v<T, Float16>, Float16, BFloat16>;
template <typename T>
using MappedEpilogue = GemmEpilogue<Arithmetic<T>, Beside<T>>;

// kRows: c[j] = row j of a (or row list[j]) times op(b), as many as *size. kTransposed: b is stored [n, k].
template <typename T, bool kTransposed, bool kWide>
struct RowsProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = true, kRightAlong = kTransposed;
  const T *a, *b;
  std::int64_t a_ld, b_ld;
  const std::int32_t *size, *list;  // list: null: rows of a are those of c
  int cols, depth;
  MappedEpilogue<T> epilogue;

  // The block's, and the thread's.
  int count = 0, column = 0;
  const T* row = nullptr;

  __device__ bool Begin(int) {
    count = *size;
    return true;
  }
  __device__ int rows() const { return count; }
  __device__ int columns() const { return cols; }
  __device__ int begin() const { return 0; }
  __device__ int end() const { return depth; }
  __device__ void StartLeft(int j) {
    if (j < count) row = a + (list == nullptr ? j : list[j]) * a_ld;
  }
  __device__ void StartRight(int n) { column = n; }
  __device__ void Left(int k, Number (&to)[kFour]) const {
    if (row != nullptr && k < depth) LoadFour<kWide>(row + k, depth - k, to);
  }
  __device__ void Right(int k, Number (&to)[kFour]) const {
    if (column >= cols || k >= depth) return;
    if constexpr (kTransposed) {
      LoadFour<kWide>(b + column * b_ld + k, depth - k, to);
    } else {
      LoadFour<kWide>(b + k * b_ld + column, cols - column, to);
    }
  }
  __device__ void Store(int j, int n, Number sum) const { epilogue.c.template Put<1>(j, n, epilogue.template Apply<1>(j, n, {{sum}})); }
};

// Four elements of a row of depth, as LoadFour. Of f16 one by one all are read before the first is converted: else registers are spilled.
template <bool kWide, typename T>
__device__ __forceinline__ void LoadOfDepth(const T* from, int count, Arithmetic<T> (&to)[kFour]) {
  if constexpr (!kWide && std::is_same_v<T, Float16>) {
    T raw[kFour] = {};
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      if (i < count) raw[i] = from[i];
    }
#pragma unroll
    for (int i = 0; i < kFour; ++i) to[i] = Widen(raw[i]);
  } else {
    LoadFour<kWide>(from, count, to);
  }
}

// kDepth: c[m][n] = sum over u < *size of a[u][m] (or of row list[u] of a) times b[u][n].
template <typename T, bool kWide>
struct DepthProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = false, kRightAlong = false;
  const T *a, *b;
  std::int64_t a_ld, b_ld;
  const std::int32_t *size, *list;
  int num_rows, cols;
  EpilogueOperand<Number, Beside<T>> c;
  bool accumulate;

  int depth = 0, row = 0, column = 0;

  __device__ bool Begin(int) {
    depth = *size;
    return true;
  }
  __device__ int rows() const { return num_rows; }
  __device__ int columns() const { return cols; }
  __device__ int begin() const { return 0; }
  __device__ int end() const { return depth; }
  __device__ void StartLeft(int m) { row = m; }
  __device__ void StartRight(int n) { column = n; }
  __device__ void Left(int u, Number (&to)[kFour]) const {
    if (row < num_rows && u < depth) LoadOfDepth<kWide>(a + (list == nullptr ? u : list[u]) * a_ld + row, num_rows - row, to);
  }
  __device__ void Right(int u, Number (&to)[kFour]) const {
    if (column < cols && u < depth) LoadOfDepth<kWide>(b + u * b_ld + column, cols - column, to);
  }
  __device__ void Store(int m, int n, Number sum) const {
    if (accumulate) sum += c.template Get<1>(m, n)[0];
    c.template Put<1>(m, n, {{sum}});
  }
};

template <typename P>
void Launch(Stream& stream, const MappedGemmArgs& args, const P& product) {
  const Matrix& c = args.gemm.c;
  // Of c's rows there are as many as clusters at most.
  const std::int64_t rows = args.over == MappedOver::kRows ? std::min(c.rows, args.map.extent) : c.rows;
  if (rows == 0 || c.cols == 0) return;
  const dim3 grid(static_cast<unsigned>(ConvTiles(rows)), static_cast<unsigned>(ConvTiles(c.cols)));
  const cudaLaunchConfig_t config = LaunchConfig(TargetOf(stream), grid, dim3(kConvThreads));
  const cudaError_t error = cudaLaunchKernelEx(&config, ConvTileKernel<P>, product);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "MappedGemm", __FILE__, __LINE__, args.map.ToString()));
}

template <typename T, bool kWide>
void LaunchOver(Stream& stream, const MappedGemmArgs& args) {
  const GemmArgs& g = args.gemm;
  const auto *a = static_cast<const T*>(g.a.data), *b = static_cast<const T*>(g.b.data);
  const std::int32_t* list = args.gather_a ? args.map.representatives : nullptr;
  const auto epilogue = GemmEpilogueOf<Arithmetic<T>, Beside<T>>(g);
  const int cols = static_cast<int>(g.c.cols);
  if (args.over == MappedOver::kDepth) {
    return Launch(
        stream, args,
        DepthProduct<T, kWide>{a, b, g.a.ld, g.b.ld, args.map.size, list, static_cast<int>(g.c.rows), cols, epilogue.c, epilogue.add_c});
  }
  const int depth = static_cast<int>(g.a.cols);
  if (g.transpose_b) {
    return Launch(stream, args, RowsProduct<T, true, kWide>{a, b, g.a.ld, g.b.ld, args.map.size, list, cols, depth, epilogue});
  }
  Launch(stream, args, RowsProduct<T, false, kWide>{a, b, g.a.ld, g.b.ld, args.map.size, list, cols, depth, epilogue});
}

}  // namespace

void MappedGemmPlain(Stream& stream, const MappedGemmArgs& args) {
  const GemmArgs& g = args.gemm;
  DispatchAnyStored(g.a.dtype, [&]<typename T>() {
    const bool wide =
        AllowsFour(static_cast<const T*>(g.a.data), g.a.cols, g.a.ld) && AllowsFour(static_cast<const T*>(g.b.data), g.b.cols, g.b.ld);
    return wide ? LaunchOver<T, true>(stream, args) : LaunchOver<T, false>(stream, args);
  });
}

}  // namespace lycia::cuda
