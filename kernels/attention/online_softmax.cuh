// The softmax of a row whose scores come a tile at a time (Milakov & Gimelshein 2018), on the accumulator fragments of wgmma.h and
// mma_fragment.h: a thread has two rows, four threads of a warp share one. Device code only.
#ifndef LYCIA_KERNELS_ATTENTION_ONLINE_SOFTMAX_CUH_
#define LYCIA_KERNELS_ATTENTION_ONLINE_SOFTMAX_CUH_

#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/cuda/exp2.cuh"
#include "kernels/cuda/pair.cuh"

namespace lycia::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// scores = -infinity for keys at or behind the limit of their row. first: the key of the thread's first score.
template <int kScores>
__device__ __forceinline__ void MaskScores(float (&scores)[kScores], const int (&limits)[2], int first) {
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    if (first + i / 4 * 8 + i % 2 >= limits[i / 2 % 2]) scores[i] = -INFINITY;
  }
}

template <int kCount>
__device__ __forceinline__ void ScaleRows(float (&values)[kCount], const float (&factors)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] *= factors[i / 2 % 2];
}

// To bf16: the A registers of the next product.
template <int kScores>
__device__ __forceinline__ void PackProbabilities(const float (&scores)[kScores], std::uint32_t (&packed)[kScores / 2]) {
  PackPairs<BFloat16>(scores, packed);
}

// maximum: of the unscaled scores so far. sum: of exp(scale (score - maximum)) over the thread's own columns; the four are added at the
// end.
template <int kScores>
struct OnlineSoftmax {
  float scale, scale_log2;  // exp(scale x) = 2^(scale_log2 x)
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  __device__ __forceinline__ explicit OnlineSoftmax(float s) : scale(s), scale_log2(s * std::numbers::log2e_v<float>) {}

  // Scores become exp(scale (score - maximum)).
  // factors: what earlier sums and products were multiplied by, or are to be.
  __device__ __forceinline__ void Next(float (&scores)[kScores], float (&factors)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = scores[2 * r];
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
        if (i / 2 % 2 == r) largest = fmaxf(largest, scores[i]);
      }
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
      largest = fmaxf(largest, maximum[r]);
      const float shift = largest == -INFINITY ? 0 : largest * scale_log2;  // a row that has seen no key yet
      factors[r] = Exp2(maximum[r] * scale_log2 - shift);
      maximum[r] = largest;
      float added = 0;
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
        if (i / 2 % 2 == r) {
          scores[i] = Exp2(scores[i] * scale_log2 - shift);
          added += scores[i];
        }
      }
      sum[r] = sum[r] * factors[r] + added;
    }
  }
  // 1 / sum and log sum exp; 0 and -infinity of a row that saw no key; NaN of one that saw a NaN.
  __device__ __forceinline__ void Finish(float (&inverse_sums)[2], float (&log_sums)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], 1);
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], 2);
      inverse_sums[r] = sum[r] == 0 ? 0 : 1 / sum[r];
      log_sums[r] = sum[r] == 0 ? -INFINITY : maximum[r] * scale + logf(sum[r]);
    }
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ONLINE_SOFTMAX_CUH_
