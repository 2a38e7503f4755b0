// Fused multi-head attention, forward and backward, that never materialises the queries x keys matrix.
//
//   s = scale * q kᵀ on visible keys;  p = softmax(s);  out = dropout(p) v;  log_sum_exp = log sum exp(s)
//
// Tiles over keys with the online softmax (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022). The backward recomputes p from
// log_sum_exp (FlashAttention-2, Dao 2023, sec. 3.1.2). Beside the tensors it needs O(head_dim) scratch, whatever the sequence length; in
// bf16 O(S head_dim) on the CPU, which packs or widens a key head at a time, and the backward on CUDA, whose blocks add to dq in turn, 4
// bytes for each of its elements.
//
// On the CPU: f32 and f64; bf16 with f32 sums (what is rounded: docs/numerics.md). Threads of the stream take key heads, and share those
// left over and those too long for a workspace (attention_share.h). On CUDA, the first of these that serves a call: Hopper's kernels,
// bf16 with D = 64 or 128, no block mask, packed sequences or dropout; the tensor cores of every chip, bf16 and f16 with D a multiple of
// 8 up to 128, both with rows at multiples of 16 bytes and a positive scale; plain ones. The lists of a mask must live until the call's
// work is done.
//
// Letters: B samples, T queries, S keys, H heads, G key/value heads (query head h reads key head h / (H / G)), D features of a head.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_H_

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"
#include "runtime/core/philox.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Element (b, t, h, d) at data[b * sample_stride + t * row_stride + h * head_stride + d]; strides in elements.
struct HeadsView {
  void* data = nullptr;
  std::int64_t sample_stride = 0, row_stride = 0, head_stride = 0;
};
struct ConstHeadsView {
  const void* data = nullptr;
  std::int64_t sample_stride = 0, row_stride = 0, head_stride = 0;

  ConstHeadsView() = default;
  ConstHeadsView(const void* d, std::int64_t sample, std::int64_t row, std::int64_t head)
      : data(d), sample_stride(sample), row_stride(row), head_stride(head) {}
  ConstHeadsView(const HeadsView& v) : ConstHeadsView(v.data, v.sample_stride, v.row_stride, v.head_stride) {}  // NOLINT
};

enum class MaskKind : std::uint8_t { kFull, kCausal };

// Which blocks of keys a block of queries visits, a further restriction of the mask. Absent when block = 0.
struct BlockMask {
  std::int64_t block = 0;                    // queries and keys a block, counted from the first query and the first key given
  std::span<const std::int32_t> first;       // [query blocks + 1]: key_blocks[first[i] .. first[i + 1]) belong to query block i
  std::span<const std::int32_t> key_blocks;  // ascending for each query block
};

// Dropout of the probabilities: the element of (sample, head, query, key) has random index ((sample * H + head) * T + query) * T + key,
// all counted globally, so that it is the same on every layout.
struct AttentionDropout {
  double rate = 0;
  RandomStream random;
  std::int64_t first_sample = 0;  // global index of sample 0 of this call
  std::int64_t first_head = 0;    // of head 0 of this call
  std::int64_t total_heads = 0;   // H of the formula
  std::int64_t length = 0;        // T of the formula
};

struct AttentionProblem {
  DType dtype = DType::kF32;
  std::int64_t samples = 0;   // B
  std::int64_t queries = 0;   // T
  std::int64_t keys = 0;      // S
  std::int64_t heads = 0;     // H
  std::int64_t kv_heads = 0;  // G, divides H
  std::int64_t head_dim = 0;  // D
  double scale = 0;           // usually 1 / sqrt(D)
  MaskKind mask = MaskKind::kCausal;
  std::int64_t first_query = 0;  // position of query 0 in the sequence; causal: key position <= query position
  std::int64_t first_key = 0;
  // Packed sequences: ascending from 0 to T; a query sees its own sequence only. Needs B = 1, T = S, first_query = first_key = 0.
  std::span<const std::int32_t> sequence_offsets;
  BlockMask blocks;
  AttentionDropout dropout;
};

struct AttentionForwardArgs {
  AttentionProblem problem;
  ConstHeadsView q;    // [B, T, H, D]
  ConstHeadsView k;    // [B, S, G, D]
  ConstHeadsView v;    // [B, S, G, D]
  HeadsView out;       // [B, T, H, D]; 0 for a query that sees no key
  Tensor log_sum_exp;  // [B, H, T] of the problem's dtype, f32 for bf16; -infinity for a query that sees no key
  Tensor scratch;      // u8, at least AttentionForwardScratchBytes(problem), 64-byte aligned
};

struct AttentionBackwardArgs {
  AttentionProblem problem;  // as in the forward
  ConstHeadsView q, k, v;    // as in the forward
  ConstHeadsView out;        // [B, T, H, D] of the forward
  ConstHeadsView dout;       // [B, T, H, D]
  ConstTensor log_sum_exp;   // [B, H, T] of the forward
  HeadsView dq, dk, dv;      // = gradients; shapes of q, k, v; overlap no input
  Tensor scratch;            // u8, at least AttentionBackwardScratchBytes(problem), 64-byte aligned
};

// Independent of T and S but in bf16 and f16; enough for either device.
std::int64_t AttentionForwardScratchBytes(const AttentionProblem& problem);
std::int64_t AttentionBackwardScratchBytes(const AttentionProblem& problem);

// Multiply-adds count twice; q kᵀ and p v on the visible half of a causal mask (docs of FLOP counting: full squares for kFull).
double AttentionForwardFlops(const AttentionProblem& problem);

// The three parts of a packed row: [B, T, (H + 2 G) D] holds the heads of q, then of k, then of v.
template <typename View>
struct PackedQkv {
  View q, k, v;
};
PackedQkv<ConstHeadsView> SplitQkv(const ConstTensor& qkv, std::int64_t heads, std::int64_t kv_heads);
PackedQkv<HeadsView> SplitQkv(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads);
// [B, T, H D] seen as heads.
ConstHeadsView AsHeads(const ConstTensor& tensor, std::int64_t heads);
HeadsView AsHeads(const Tensor& tensor, std::int64_t heads);

namespace cpu {
void AttentionForward(Stream& stream, const AttentionForwardArgs& args);
void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void AttentionForward(Stream& stream, const AttentionForwardArgs& args);
void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args);
}  // namespace cuda

inline void AttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AttentionForward(stream, args); }, [&] { cuda::AttentionForward(stream, args); });
}
inline void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AttentionBackward(stream, args); }, [&] { cuda::AttentionBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_H_
