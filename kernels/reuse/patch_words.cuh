// Patches of images as rows that a warp reads where they lie, and their keys (row_words.cuh has those of a matrix's rows). Lane l of a warp
// has packs l, l + 32, ... of the (r, s, c) of a patch; what lies outside an image counts as zeros. A patch is signed by the signatures of
// its pixels, each at its tap: a plane of 8 bytes a pixel, and one for what lies outside. Device code.
#ifndef LYCIA_KERNELS_REUSE_PATCH_WORDS_CUH_
#define LYCIA_KERNELS_REUSE_PATCH_WORDS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/conv/conv_plain_tile.cuh"
#include "kernels/reuse/row_words.cuh"

namespace lycia::cuda {

// Patches are alike where their bits are equal. U: unsigned numbers as wide as the elements; packs of V, which divides the channels.
template <typename U, int V>
struct PatchBits {
  PlainPatches<U> patches;
  PlainPatches<std::uint64_t> plane;  // the same patches of signatures, images of one channel
  const std::uint64_t* outside;       // the signature of a pixel of zeros

  using Position = typename PlainPatches<U>::Position;
  __device__ __forceinline__ int packs() const { return patches.depth() / V; }
  __device__ __forceinline__ Pack<U, V> At(const Position& at, int pack) const {
    const int tap = pack * V / patches.channels, c = pack * V - tap * patches.channels, r = tap / patches.taps_w;
    const U* from = patches.Pixel(at, r, tap - r * patches.taps_w);
    if (from == nullptr) return {};
    return *reinterpret_cast<const Pack<U, V>*>(from + c);
  }

  __device__ std::uint64_t Signature(std::int64_t patch, int lane) const {
    const auto at = plane.At(static_cast<int>(patch));
    std::uint64_t sum = 0;
    for (int tap = lane; tap < plane.depth(); tap += 32) {
      const int r = tap / plane.taps_w;
      const std::uint64_t* pixel = plane.Pixel(at, r, tap - r * plane.taps_w);
      sum += KeyedWord(pixel == nullptr ? *outside : *pixel, tap);
    }
    return MixBits(WarpSum(sum));
  }
  __device__ bool Equal(std::int64_t patch, std::int64_t other, int lane) const {
    const Position one = patches.At(static_cast<int>(patch)), two = patches.At(static_cast<int>(other));
    std::uint64_t differs = 0;
#pragma unroll 1
    for (int p = lane; p < packs(); p += 32) differs |= Difference(At(one, p), At(two, p));
    return __ballot_sync(kAllLanes, differs != 0) == 0;
  }

 private:
  // Not 0 where any bits differ; by words of eight bytes where packs have them, for fewer registers.
  static __device__ __forceinline__ std::uint64_t Difference(const Pack<U, V>& a, const Pack<U, V>& b) {
    if constexpr (sizeof(a) % sizeof(std::uint64_t) == 0) {
      constexpr int kWords = static_cast<int>(sizeof(a) / sizeof(std::uint64_t));
      std::uint64_t of_a[kWords], of_b[kWords], differs = 0;
      memcpy(of_a, &a, sizeof(a));
      memcpy(of_b, &b, sizeof(b));
#pragma unroll
      for (int w = 0; w < kWords; ++w) differs |= of_a[w] ^ of_b[w];
      return differs;
    } else {
      bool differs = false;
#pragma unroll
      for (int e = 0; e < V; ++e) differs = differs || a.at[e] != b.at[e];
      return differs;
    }
  }
};

// Patches of S are alike where their elements, times the reciprocal of delta, round alike; one with a NaN where its bits are equal. Pixels
// are signed as QuantizedKeys does.
template <typename S, typename U, int V>
struct QuantizedPatches {
  using A = Arithmetic<S>;
  static_assert(sizeof(S) == sizeof(U));
  PatchBits<U, V> bits;
  A reciprocal;

  __device__ __forceinline__ A Rounded(U raw) const {
    S element;
    memcpy(&element, &raw, sizeof(element));
    return Nearest(Widen(element) * reciprocal) + A(0);  // one zero
  }
  __device__ std::uint64_t Signature(std::int64_t patch, int lane) const { return bits.Signature(patch, lane); }
  __device__ bool Equal(std::int64_t patch, std::int64_t other, int lane) const {
    const auto one = bits.patches.At(static_cast<int>(patch)), two = bits.patches.At(static_cast<int>(other));
    bool differs = false;
#pragma unroll 1
    for (int p = lane; p < bits.packs(); p += 32) {
      const Pack<U, V> a = bits.At(one, p), b = bits.At(two, p);
#pragma unroll
      for (int e = 0; e < V; ++e) differs = differs || Rounded(a.at[e]) != Rounded(b.at[e]);
    }
    return __ballot_sync(kAllLanes, differs) == 0 || bits.Equal(patch, other, lane);
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_PATCH_WORDS_CUH_
