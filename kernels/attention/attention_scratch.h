// The scratch of an attention call, cut into named parts: of a thread, whose sizes depend on the head size only, and in bf16 of a key head.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_SCRATCH_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_SCRATCH_H_

#include <cstdint>

#include "kernels/attention/attention_tile.h"

namespace lycia::cpu {

// Cuts parts of T off a region, each at a multiple of 64 bytes; with a null region it only counts.
template <typename T>
struct ScratchCutter {
  char* data = nullptr;
  std::int64_t bytes = 0;

  T* Take(std::int64_t elements) {
    T* part = data == nullptr ? nullptr : reinterpret_cast<T*>(data + bytes);
    bytes += (elements * static_cast<std::int64_t>(sizeof(T)) + kCacheLine - 1) / kCacheLine * kCacheLine;
    return part;
  }
};

// Dp: D rounded up to whole vectors.
template <typename T>
struct ForwardScratch {
  T *q, *k, *v;         // [tile, Dp] packed rows
  T *q_t, *out_t;       // [D, kQueryTile]
  T *scores, *factors;  // [kKeyTile, kQueryTile]
  T *maximum, *sum;     // [kQueryTile]
  std::int64_t bytes;

  static ForwardScratch Make(void* data, std::int64_t head_dim) {
    const std::int64_t padded = PaddedHead<T>(head_dim);
    ScratchCutter<T> cut{static_cast<char*>(data)};
    ForwardScratch s;
    s.q = cut.Take(kQueryTile * padded);
    s.k = cut.Take(kKeyTile * padded);
    s.v = cut.Take(kKeyTile * padded);
    s.q_t = cut.Take(head_dim * kQueryTile);
    s.out_t = cut.Take(head_dim * kQueryTile);
    s.scores = cut.Take(kKeyTile * kQueryTile);
    s.factors = cut.Take(kKeyTile * kQueryTile);
    s.maximum = cut.Take(kQueryTile);
    s.sum = cut.Take(kQueryTile);
    s.bytes = cut.bytes;
    return s;
  }
};

template <typename T>
struct BackwardScratch {
  T *q, *dout, *k, *v;         // [tile, Dp] packed rows
  T *q_t, *dout_t, *dq_t;      // [D, kQueryTile]
  T *probabilities, *dscores;  // [kKeyTile, kQueryTile]
  T* factors;                  // [kKeyTile, kQueryTile]
  T *log_sum_exp, *delta;      // [kQueryTile]
  std::int64_t bytes;

  static BackwardScratch Make(void* data, std::int64_t head_dim) {
    const std::int64_t padded = PaddedHead<T>(head_dim);
    ScratchCutter<T> cut{static_cast<char*>(data)};
    BackwardScratch s;
    s.q = cut.Take(kQueryTile * padded);
    s.dout = cut.Take(kQueryTile * padded);
    s.k = cut.Take(kKeyTile * padded);
    s.v = cut.Take(kKeyTile * padded);
    s.q_t = cut.Take(head_dim * kQueryTile);
    s.dout_t = cut.Take(head_dim * kQueryTile);
    s.dq_t = cut.Take(head_dim * kQueryTile);
    s.probabilities = cut.Take(kKeyTile * kQueryTile);
    s.dscores = cut.Take(kKeyTile * kQueryTile);
    s.factors = cut.Take(kKeyTile * kQueryTile);
    s.log_sum_exp = cut.Take(kQueryTile);
    s.delta = cut.Take(kQueryTile);
    s.bytes = cut.bytes;
    return s;
  }
};

// bf16 widened to f32, rows of D side by side: a key head, [S, D], and the tile of a thread, [kQueryTile, D].
struct WideKeys {
  float *k, *v, *dk, *dv;
  std::int64_t bytes;

  static WideKeys Make(void* data, const AttentionProblem& p, bool backward) {
    WideKeys s{};
    ScratchCutter<float> cut{static_cast<char*>(data)};
    for (float** part : {&s.k, &s.v}) *part = cut.Take(p.keys * p.head_dim);
    for (float** part : {&s.dk, &s.dv}) *part = cut.Take(backward ? p.keys * p.head_dim : 0);
    s.bytes = cut.bytes;
    return s;
  }
};
template <typename Scratch>  // ForwardScratch<float> or BackwardScratch<float>
struct WideTile {
  Scratch tiles;
  float *q, *out, *dout, *dq;
  std::int64_t bytes;

  static WideTile Make(void* data, std::int64_t head_dim) {
    WideTile s;
    s.tiles = Scratch::Make(data, head_dim);
    ScratchCutter<float> cut{static_cast<char*>(data), s.tiles.bytes};
    for (float** part : {&s.q, &s.out, &s.dout, &s.dq}) *part = cut.Take(kQueryTile * head_dim);
    s.bytes = cut.bytes;
    return s;
  }
};

// In bf16, of a key head and of a thread (attention_cpu.cc).
struct AttentionBytes {
  std::int64_t head, tile;
};
AttentionBytes Bf16ForwardBytes(const AttentionProblem& p);
AttentionBytes Bf16BackwardBytes(const AttentionProblem& p);

// Null where the view's memory is null; T must be the problem's dtype.
template <typename T>
T* RowsOf(const HeadsView& view, std::int64_t sample, std::int64_t row, std::int64_t head) {
  return static_cast<T*>(view.data) + sample * view.sample_stride + row * view.row_stride + head * view.head_stride;
}
template <typename T>
const T* RowsOf(const ConstHeadsView& view, std::int64_t sample, std::int64_t row, std::int64_t head) {
  return static_cast<const T*>(view.data) + sample * view.sample_stride + row * view.row_stride + head * view.head_stride;
}

// What the sizes of a problem promise each other.
inline void CheckProblem(const AttentionProblem& p, const Tensor& scratch, std::int64_t scratch_bytes) {
  LYCIA_CHECK(p.kv_heads > 0 && p.heads % p.kv_heads == 0) << p.kv_heads << " key heads do not divide " << p.heads << " heads ";
  LYCIA_CHECK(p.dropout.rate >= 0 && p.dropout.rate < 1) << "dropout rate " << p.dropout.rate << " ";
  LYCIA_CHECK(scratch.bytes() >= scratch_bytes) << "scratch of " << scratch.bytes() << " bytes, needed " << scratch_bytes << " ";
  LYCIA_CHECK(reinterpret_cast<std::uintptr_t>(scratch.data) % kCacheLine == 0) << "scratch is not aligned ";
  if (!p.sequence_offsets.empty()) {
    LYCIA_CHECK(p.samples == 1 && p.queries == p.keys && p.first_query == 0 && p.first_key == 0)
        << "packed sequences need one whole sample ";
    LYCIA_CHECK(p.sequence_offsets.front() == 0 && p.sequence_offsets.back() == p.queries) << "sequence offsets do not cover the sample ";
  }
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_SCRATCH_H_
