// Attention on the CPU, over samples and heads. Threads take key heads with all query heads that read them, so that the sums of dk and dv
// have one order. bf16 goes to a kernel that multiplies pairs, or is widened to f32 a head at a time: also where numbers that are not
// finite stand under a causal mask, because a kernel of pairs multiplies what is hidden by zero.
#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_head.h"
#include "kernels/attention/attention_pairs.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

// unit(sample, key head, scratch memory) for all key heads. The caller's thread has the call's scratch, the others their workspaces: where
// one of those is too small, the caller works alone.
template <typename Unit>
void ForEachKeyHead(Stream& stream, const AttentionProblem& p, const Tensor& scratch, std::int64_t bytes, const Unit& unit) {
  ThreadPool* pool = stream.pool();
  std::int64_t unit_bytes = p.queries * p.keys * (p.heads / p.kv_heads) * 8;  // a measure of its work: more than the bytes it touches
  for (int i = 1; i < pool->threads(); ++i) {
    if (static_cast<std::int64_t>(pool->workspace(i).size()) < bytes) unit_bytes = 0;
  }
  ForEachPart(stream, {.count = p.samples * p.kv_heads, .bytes_each = unit_bytes}, [&](std::int64_t begin, std::int64_t end, int thread) {
    void* memory = thread == 0 ? scratch.data : pool->workspace(thread).data();
    for (std::int64_t u = begin; u < end; ++u) unit(u / p.kv_heads, u % p.kv_heads, memory);
  });
}

// rows x D between strided memory and rows side by side.
template <typename T, typename S>
void MoveRows(const S* from, std::int64_t from_row, std::int64_t rows, std::int64_t head_dim, std::int64_t to_row, T* to) {
  ForBestIsa([=](auto isa) LYCIA_INLINE {
    for (std::int64_t r = 0; r < rows; ++r) {
      ForEachVector<Vector<float, decltype(isa)::value>>(
          head_dim, [&](auto lanes) LYCIA_INLINE { lanes.Put(to + r * to_row, lanes.Get(from + r * from_row)); });
    }
  });
}
void Widen(const ConstHeadsView& view, std::int64_t b, std::int64_t rows, std::int64_t head, std::int64_t head_dim, float* to) {
  MoveRows(RowsOf<BFloat16>(view, b, 0, head), view.row_stride, rows, head_dim, head_dim, to);
}
void Round(const float* from, std::int64_t b, std::int64_t rows, std::int64_t head, std::int64_t head_dim, const HeadsView& view) {
  MoveRows(from, head_dim, rows, head_dim, view.row_stride, RowsOf<BFloat16>(view, b, 0, head));
}

// The problem of head h of sample b alone, in f32.
AttentionProblem OneHead(const AttentionProblem& p, std::int64_t b, std::int64_t h) {
  AttentionProblem one = p;
  one.dtype = DType::kF32;
  one.samples = one.heads = one.kv_heads = 1;
  one.dropout.first_sample += b;
  one.dropout.first_head += h;
  return one;
}
HeadsView Rows(float* data, const AttentionProblem& p) { return {.data = data, .row_stride = p.head_dim}; }
// The statistics [T] of one head.
template <typename View>
View OfHead(const View& log_sum_exp, const AttentionProblem& p, std::int64_t b, std::int64_t h) {
  return {log_sum_exp.template as<float>() + (b * p.heads + h) * p.queries, DType::kF32, {1, 1, p.queries}};
}

void WideForwardHeads(const AttentionForwardArgs& args, std::int64_t b, std::int64_t g, const WideForward& s) {
  const AttentionProblem& p = args.problem;
  const std::int64_t group = p.heads / p.kv_heads;
  Widen(args.k, b, p.keys, g, p.head_dim, s.k);
  Widen(args.v, b, p.keys, g, p.head_dim, s.v);
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
    Widen(args.q, b, p.queries, h, p.head_dim, s.q);
    ForwardHead<float>({.problem = OneHead(p, b, h),
                        .q = Rows(s.q, p),
                        .k = Rows(s.k, p),
                        .v = Rows(s.v, p),
                        .out = Rows(s.out, p),
                        .log_sum_exp = OfHead(args.log_sum_exp, p, b, h)},
                       0, 0, s.tiles);
    Round(s.out, b, p.queries, h, p.head_dim, args.out);
  }
}

void WideBackwardHeads(const AttentionBackwardArgs& args, std::int64_t b, std::int64_t g, const WideBackward& s) {
  const AttentionProblem& p = args.problem;
  const std::int64_t group = p.heads / p.kv_heads;
  Widen(args.k, b, p.keys, g, p.head_dim, s.k);
  Widen(args.v, b, p.keys, g, p.head_dim, s.v);
  std::fill_n(s.dk, p.keys * p.head_dim, 0.0f);
  std::fill_n(s.dv, p.keys * p.head_dim, 0.0f);
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
    Widen(args.q, b, p.queries, h, p.head_dim, s.q);
    Widen(args.out, b, p.queries, h, p.head_dim, s.out);
    Widen(args.dout, b, p.queries, h, p.head_dim, s.dout);
    BackwardHead<float>({.problem = OneHead(p, b, h),
                         .q = Rows(s.q, p),
                         .k = Rows(s.k, p),
                         .v = Rows(s.v, p),
                         .out = Rows(s.out, p),
                         .dout = Rows(s.dout, p),
                         .log_sum_exp = OfHead(args.log_sum_exp, p, b, h),
                         .dq = Rows(s.dq, p),
                         .dk = Rows(s.dk, p),
                         .dv = Rows(s.dv, p)},
                        0, 0, s.tiles);
    Round(s.dq, b, p.queries, h, p.head_dim, args.dq);
  }
  Round(s.dk, b, p.keys, g, p.head_dim, args.dk);
  Round(s.dv, b, p.keys, g, p.head_dim, args.dv);
}

bool IsFinite(const ConstHeadsView& view, std::int64_t b, std::int64_t rows, std::int64_t head, std::int64_t head_dim) {
  std::int16_t largest = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const BFloat16* row = RowsOf<BFloat16>(view, b, r, head);
    for (std::int64_t d = 0; d < head_dim; ++d) largest = std::max(largest, static_cast<std::int16_t>(row[d].bits & 0x7fff));
  }
  return largest < 0x7f80;  // infinity
}
// Whether a kernel of pairs may do a key head: where all that a mask hides is a number, zero times it is zero.
bool MayMultiplyHidden(const AttentionForwardArgs& args, std::int64_t b, std::int64_t g) {
  const AttentionProblem& p = args.problem;
  return p.mask == MaskKind::kFull || IsFinite(args.v, b, p.keys, g, p.head_dim);
}
bool MayMultiplyHidden(const AttentionBackwardArgs& args, std::int64_t b, std::int64_t g) {
  const AttentionProblem& p = args.problem;
  if (p.mask == MaskKind::kFull) return true;
  bool finite = IsFinite(args.k, b, p.keys, g, p.head_dim) && IsFinite(args.v, b, p.keys, g, p.head_dim);
  const std::int64_t group = p.heads / p.kv_heads;
  for (std::int64_t h = g * group; finite && h < (g + 1) * group; ++h) {
    for (const ConstHeadsView* view : {&args.q, &args.out, &args.dout}) finite = finite && IsFinite(*view, b, p.queries, h, p.head_dim);
  }
  return finite;
}

template <typename T>
void ZeroRows(const HeadsView& view, std::int64_t b, std::int64_t rows, std::int64_t head, std::int64_t head_dim) {
  for (std::int64_t r = 0; r < rows; ++r) std::fill_n(RowsOf<T>(view, b, r, head), head_dim, T(0));
}

}  // namespace

void AttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  const AttentionProblem& p = args.problem;
  CheckProblem(p, args.scratch, AttentionForwardScratchBytes(p));
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);
  const std::int64_t group = p.heads / p.kv_heads;
  if (p.dtype == DType::kBF16) {
    const MicroKernel* pairs = PairKernelFor(p);
    const std::int64_t bytes = std::max(WideForward::Make(nullptr, p).bytes, pairs == nullptr ? 0 : PairForwardBytes(p, *pairs));
    return ForEachKeyHead(stream, p, args.scratch, bytes, [&](std::int64_t b, std::int64_t g, void* memory) {
      if (pairs != nullptr && MayMultiplyHidden(args, b, g)) return PairForwardHeads(*pairs, args, b, g, memory);
      WideForwardHeads(args, b, g, WideForward::Make(memory, p));
    });
  }
  DispatchFloat(p.dtype, [&]<typename T>() {
    const std::int64_t bytes = ForwardScratch<T>::Make(nullptr, p.head_dim).bytes;
    ForEachKeyHead(stream, p, args.scratch, bytes, [&](std::int64_t b, std::int64_t g, void* memory) {
      const auto scratch = ForwardScratch<T>::Make(memory, p.head_dim);
      for (std::int64_t h = g * group; h < (g + 1) * group; ++h) ForwardHead<T>(args, b, h, scratch);
    });
  });
}

void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  const AttentionProblem& p = args.problem;
  CheckProblem(p, args.scratch, AttentionBackwardScratchBytes(p));
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);
  const std::int64_t group = p.heads / p.kv_heads;
  if (p.dtype == DType::kBF16) {
    const MicroKernel* pairs = PairKernelFor(p);
    const std::int64_t bytes = std::max(WideBackward::Make(nullptr, p).bytes, pairs == nullptr ? 0 : PairBackwardBytes(p, *pairs));
    return ForEachKeyHead(stream, p, args.scratch, bytes, [&](std::int64_t b, std::int64_t g, void* memory) {
      if (pairs != nullptr && MayMultiplyHidden(args, b, g)) return PairBackwardHeads(*pairs, args, b, g, memory);
      WideBackwardHeads(args, b, g, WideBackward::Make(memory, p));
    });
  }
  DispatchFloat(p.dtype, [&]<typename T>() {
    const std::int64_t bytes = BackwardScratch<T>::Make(nullptr, p.head_dim).bytes;
    ForEachKeyHead(stream, p, args.scratch, bytes, [&](std::int64_t b, std::int64_t g, void* memory) {
      ZeroRows<T>(args.dk, b, p.keys, g, p.head_dim);
      ZeroRows<T>(args.dv, b, p.keys, g, p.head_dim);
      const auto scratch = BackwardScratch<T>::Make(memory, p.head_dim);
      for (std::int64_t h = g * group; h < (g + 1) * group; ++h) BackwardHead<T>(args, b, h, scratch);
    });
  });
}

}  // namespace lycia::cpu
