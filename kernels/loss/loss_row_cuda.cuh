// The passes over one row of logits that the cross-entropies share, by all threads of a block.
#ifndef LYCIA_KERNELS_LOSS_LOSS_ROW_CUDA_CUH_
#define LYCIA_KERNELS_LOSS_LOSS_ROW_CUDA_CUH_

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/activation/gelu_cuda.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/loss/cross_entropy_cuda_launch.h"

namespace lycia::cuda {

// body.template operator()<V>(first column) for all columns of a row that begins at element `first` of its tensor.
template <int V, typename Body>
__device__ __forceinline__ void ForRow(std::int64_t first, std::int64_t size, const Body& body) {
  const RowCut cut = CutRow(first, size, V);
  const std::int64_t thread = threadIdx.x, threads = blockDim.x;
  for (std::int64_t i = thread; i < cut.head; i += threads) body.template operator()<1>(i);
#pragma unroll 2
  for (std::int64_t p = thread; p < cut.packs; p += threads) body.template operator()<V>(cut.head + p * V);
  for (std::int64_t i = cut.tail + thread; i < size; i += threads) body.template operator()<1>(i);
}

// The largest logit and the sum of exp(logit - largest). -infinity and 0 of nothing; a NaN makes the sum one.
template <typename A>
struct ExpSum {
  A largest = -INFINITY, sum = 0;

  __device__ void Raise(A to) {
    if (!(to > largest)) return;
    if (sum != A(0)) sum *= Exp(largest - to);
    largest = to;
  }
  __device__ void Add(A logit) { sum += logit == A(-INFINITY) ? A(0) : Exp(logit - largest); }
  __device__ void Merge(const ExpSum& other) {
    Raise(other.largest);
    if (other.sum != A(0)) sum += other.sum * Exp(other.largest - largest);
  }
};

template <int V, typename T>
__device__ __forceinline__ ExpSum<Arithmetic<T>> SumOfRow(const T* row, std::int64_t first, std::int64_t size) {
  using A = Arithmetic<T>;
  ExpSum<A> s;
  ForRow<V>(first, size, [&]<int W>(std::int64_t i) {
    const Values<A, W> x = Load<W>(row + i);
    A largest = x[0];
#pragma unroll
    for (int k = 1; k < W; ++k) largest = x[k] > largest ? x[k] : largest;
    s.Raise(largest);
#pragma unroll
    for (int k = 0; k < W; ++k) s.Add(x[k]);
  });
  return s;
}

// Over the threads of the block, the same bits in each: pairs of lanes, then the warps in order.
template <typename A>
__device__ ExpSum<A> MergeBlock(ExpSum<A> s, ExpSum<A>* of_warp) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const ExpSum<A> other{__shfl_xor_sync(0xffffffffu, s.largest, distance), __shfl_xor_sync(0xffffffffu, s.sum, distance)};
    // In the order of the lanes, so that both of a pair find the same.
    if ((threadIdx.x & static_cast<unsigned>(distance)) == 0) {
      s.Merge(other);
    } else {
      ExpSum<A> lower = other;
      lower.Merge(s);
      s = lower;
    }
  }
  if (blockDim.x == 32) return s;
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = s;
  __syncthreads();
  s = of_warp[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) s.Merge(of_warp[w]);
  return s;
}

// gradient = scale (softmax - onehot) with factor = scale / sum; `label` outside [0, size): softmax alone. May be the row.
template <int V, typename T, typename G>
__device__ __forceinline__ void WriteLossGradient(const T* row, std::int64_t first, std::int64_t size, Arithmetic<T> largest,
                                                  Arithmetic<T> factor, Arithmetic<T> scale, std::int64_t label, G* gradient) {
  using A = Arithmetic<T>;
  ForRow<V>(first, size, [&]<int W>(std::int64_t i) {
    const Values<A, W> x = Load<W>(row + i);
    Values<Arithmetic<G>, W> g;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const A softmax = Exp(x[k] - largest) * factor;
      g[k] = static_cast<Arithmetic<G>>(i + k == label ? softmax - scale : softmax);
    }
    Store<W>(gradient + i, g);
  });
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_LOSS_LOSS_ROW_CUDA_CUH_
