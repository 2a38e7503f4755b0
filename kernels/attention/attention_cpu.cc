// Attention on the CPU: what the threads of a call do with a key head (attention_share.h), by type. bf16 goes to a kernel that multiplies
// pairs, or is widened to f32, the keys a head and the queries a tile at a time: also where numbers that are not finite stand under a
// causal mask, because a kernel of pairs multiplies what is hidden by zero.
#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_head.h"
#include "kernels/attention/attention_pairs.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/attention/attention_share.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

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
void Widen(const ConstHeadsView& view, std::int64_t b, std::int64_t row, std::int64_t rows, std::int64_t head, std::int64_t head_dim,
           float* to) {
  MoveRows(RowsOf<BFloat16>(view, b, row, head), view.row_stride, rows, head_dim, head_dim, to);
}
void Round(const float* from, std::int64_t b, std::int64_t row, std::int64_t rows, std::int64_t head, std::int64_t head_dim,
           const HeadsView& view) {
  MoveRows(from, head_dim, rows, head_dim, view.row_stride, RowsOf<BFloat16>(view, b, row, head));
}

// Tile q of head h of sample b as a problem of its own, in f32: its queries begin at 0.
AttentionProblem OneTile(const AttentionProblem& p, const QueryTile& q, std::int64_t b, std::int64_t h) {
  AttentionProblem one = p;
  one.dtype = DType::kF32;
  one.samples = one.heads = one.kv_heads = 1;
  one.queries = q.end - q.begin;
  one.first_query += q.begin;
  if (p.blocks.block > 0) one.blocks.first = p.blocks.first.subspan(static_cast<std::size_t>(q.begin / p.blocks.block));
  one.dropout.first_sample += b;
  one.dropout.first_head += h;
  return one;
}
QueryTile FromZero(const QueryTile& q) { return {0, q.end - q.begin, q.first_key, q.last_key}; }
HeadsView Rows(float* data, std::int64_t head_dim) { return {.data = data, .row_stride = head_dim}; }
// The statistics of one tile.
template <typename View>
View OfTile(const View& log_sum_exp, const AttentionProblem& p, const QueryTile& q, std::int64_t b, std::int64_t h) {
  return {log_sum_exp.template as<float>() + (b * p.heads + h) * p.queries + q.begin, DType::kF32, {1, 1, q.end - q.begin}};
}

void BeginWide(const ConstHeadsView& k, const ConstHeadsView& v, const AttentionProblem& p, const KeyHead& head, const Part& part,
               const WideKeys& s) {
  const std::int64_t first = part.Begin(p.keys), rows = part.End(p.keys) - first, at = first * p.head_dim;
  Widen(k, head.b, first, rows, head.g, p.head_dim, s.k + at);
  Widen(v, head.b, first, rows, head.g, p.head_dim, s.v + at);
}

void WideForwardQueries(const AttentionForwardArgs& args, const KeyHead& head, std::int64_t h, const QueryTile& q, void* tile_memory) {
  const AttentionProblem& p = args.problem;
  const std::int64_t D = p.head_dim, rows = q.end - q.begin;
  const WideKeys keys = WideKeys::Make(head.memory, p, false);
  const auto s = WideTile<ForwardScratch<float>>::Make(tile_memory, D);
  Widen(args.q, head.b, q.begin, rows, h, D, s.q);
  ForwardTile<float>({.problem = OneTile(p, q, head.b, h),
                      .q = Rows(s.q, D),
                      .k = Rows(keys.k, D),
                      .v = Rows(keys.v, D),
                      .out = Rows(s.out, D),
                      .log_sum_exp = OfTile(args.log_sum_exp, p, q, head.b, h)},
                     FromZero(q), 0, 0, s.tiles);
  Round(s.out, head.b, q.begin, rows, h, D, args.out);
}

void WideBackwardQueries(const AttentionBackwardArgs& args, const KeyHead& head, std::int64_t h, const QueryTile& q, void* tile_memory,
                         const KeyTurns& turns) {
  const AttentionProblem& p = args.problem;
  const std::int64_t D = p.head_dim, rows = q.end - q.begin;
  const WideKeys keys = WideKeys::Make(head.memory, p, true);
  const auto s = WideTile<BackwardScratch<float>>::Make(tile_memory, D);
  Widen(args.q, head.b, q.begin, rows, h, D, s.q);
  Widen(args.out, head.b, q.begin, rows, h, D, s.out);
  Widen(args.dout, head.b, q.begin, rows, h, D, s.dout);
  BackwardTile<float>({.problem = OneTile(p, q, head.b, h),
                       .q = Rows(s.q, D),
                       .k = Rows(keys.k, D),
                       .v = Rows(keys.v, D),
                       .out = Rows(s.out, D),
                       .dout = Rows(s.dout, D),
                       .log_sum_exp = OfTile(args.log_sum_exp, p, q, head.b, h),
                       .dq = Rows(s.dq, D),
                       .dk = Rows(keys.dk, D),
                       .dv = Rows(keys.dv, D)},
                      FromZero(q), 0, 0, s.tiles, turns);
  Round(s.dq, head.b, q.begin, rows, h, D, args.dq);
}

bool IsFinite(const ConstHeadsView& view, std::int64_t b, std::int64_t count, std::int64_t head, std::int64_t head_dim, const Part& part) {
  std::int16_t largest = 0;
  for (std::int64_t r = part.Begin(count); r < part.End(count); ++r) {
    const BFloat16* row = RowsOf<BFloat16>(view, b, r, head);
    for (std::int64_t d = 0; d < head_dim; ++d) largest = std::max(largest, static_cast<std::int16_t>(row[d].bits & 0x7fff));
  }
  return largest < 0x7f80;  // infinity
}

// The works of ForEachKeyHead. In bf16, a kernel of pairs may do a key head where all that a mask hides is a number: zero times it is zero.
struct Bf16Forward {
  static constexpr bool kAddsToKeys = false;
  const AttentionForwardArgs& args;
  const AttentionProblem& problem;
  const MicroKernel* pairs;  // null: none
  std::int64_t head_bytes, tile_bytes;

  bool IsFinite(const KeyHead& head, const Part& part) const {
    const AttentionProblem& p = problem;
    return pairs == nullptr || p.mask == MaskKind::kFull || cpu::IsFinite(args.v, head.b, p.keys, head.g, p.head_dim, part);
  }
  bool InPairs(const KeyHead& head) const { return pairs != nullptr && head.finite; }
  void Begin(const KeyHead& head, const Part& part) const {
    if (InPairs(head)) return BeginPairForward(*pairs, args, head, part);
    BeginWide(args.k, args.v, problem, head, part, WideKeys::Make(head.memory, problem, false));
  }
  void Tile(const KeyHead& head, std::int64_t h, const QueryTile& q, void* memory, const KeyTurns&) const {
    if (InPairs(head)) return PairForwardQueries(*pairs, args, head, h, q, memory);
    WideForwardQueries(args, head, h, q, memory);
  }
  void End(const KeyHead&, const Part&) const {}
};

struct Bf16Backward {
  static constexpr bool kAddsToKeys = true;
  const AttentionBackwardArgs& args;
  const AttentionProblem& problem;
  const MicroKernel* pairs;
  std::int64_t head_bytes, tile_bytes;

  bool IsFinite(const KeyHead& head, const Part& part) const {
    const AttentionProblem& p = problem;
    if (pairs == nullptr || p.mask == MaskKind::kFull) return true;
    bool finite = true;
    for (const ConstHeadsView* view : {&args.k, &args.v}) finite = finite && cpu::IsFinite(*view, head.b, p.keys, head.g, p.head_dim, part);
    const std::int64_t group = p.heads / p.kv_heads;
    for (std::int64_t h = head.g * group; finite && h < (head.g + 1) * group; ++h) {
      for (const ConstHeadsView* view : {&args.q, &args.out, &args.dout}) {
        finite = finite && cpu::IsFinite(*view, head.b, p.queries, h, p.head_dim, part);
      }
    }
    return finite;
  }
  bool InPairs(const KeyHead& head) const { return pairs != nullptr && head.finite; }
  void Begin(const KeyHead& head, const Part& part) const {
    if (InPairs(head)) return BeginPairBackward(*pairs, args, head, part);
    const WideKeys s = WideKeys::Make(head.memory, problem, true);
    BeginWide(args.k, args.v, problem, head, part, s);
    const std::int64_t D = problem.head_dim, begin = part.Begin(problem.keys) * D, end = part.End(problem.keys) * D;
    for (float* sums : {s.dk, s.dv}) std::fill(sums + begin, sums + end, 0.0f);
  }
  void Tile(const KeyHead& head, std::int64_t h, const QueryTile& q, void* memory, const KeyTurns& turns) const {
    if (InPairs(head)) return PairBackwardQueries(*pairs, args, head, h, q, memory, turns);
    WideBackwardQueries(args, head, h, q, memory, turns);
  }
  void End(const KeyHead& head, const Part& part) const {
    if (InPairs(head)) return EndPairBackward(*pairs, args, head, part);
    const WideKeys s = WideKeys::Make(head.memory, problem, true);
    const std::int64_t D = problem.head_dim, first = part.Begin(problem.keys), rows = part.End(problem.keys) - first;
    Round(s.dk + first * D, head.b, first, rows, head.g, D, args.dk);
    Round(s.dv + first * D, head.b, first, rows, head.g, D, args.dv);
  }
};

template <typename T>
struct FloatForward {
  static constexpr bool kAddsToKeys = false;
  const AttentionForwardArgs& args;
  const AttentionProblem& problem;
  std::int64_t tile_bytes;
  std::int64_t head_bytes = 0;

  bool IsFinite(const KeyHead&, const Part&) const { return true; }
  void Begin(const KeyHead&, const Part&) const {}
  void Tile(const KeyHead& head, std::int64_t h, const QueryTile& q, void* memory, const KeyTurns&) const {
    ForwardTile<T>(args, q, head.b, h, ForwardScratch<T>::Make(memory, problem.head_dim));
  }
  void End(const KeyHead&, const Part&) const {}
};

template <typename T>
struct FloatBackward {
  static constexpr bool kAddsToKeys = true;
  const AttentionBackwardArgs& args;
  const AttentionProblem& problem;
  std::int64_t tile_bytes;
  std::int64_t head_bytes = 0;

  bool IsFinite(const KeyHead&, const Part&) const { return true; }
  void Begin(const KeyHead& head, const Part& part) const {
    for (const HeadsView* view : {&args.dk, &args.dv}) {
      for (std::int64_t r = part.Begin(problem.keys); r < part.End(problem.keys); ++r) {
        std::fill_n(RowsOf<T>(*view, head.b, r, head.g), problem.head_dim, T(0));
      }
    }
  }
  void Tile(const KeyHead& head, std::int64_t h, const QueryTile& q, void* memory, const KeyTurns& turns) const {
    BackwardTile<T>(args, q, head.b, h, BackwardScratch<T>::Make(memory, problem.head_dim), turns);
  }
  void End(const KeyHead&, const Part&) const {}
};

}  // namespace

AttentionBytes Bf16ForwardBytes(const AttentionProblem& p) {
  AttentionBytes bytes{WideKeys::Make(nullptr, p, false).bytes, WideTile<ForwardScratch<float>>::Make(nullptr, p.head_dim).bytes};
  if (const MicroKernel* pairs = PairKernelFor(p); pairs != nullptr) {
    const PairShape z = PairShape::Make(*pairs, p);
    bytes.head = std::max(bytes.head, PairForwardKeys::Make(nullptr, z).bytes);
    bytes.tile = std::max(bytes.tile, PairForwardTile::Make(nullptr, z).bytes);
  }
  return bytes;
}
AttentionBytes Bf16BackwardBytes(const AttentionProblem& p) {
  AttentionBytes bytes{WideKeys::Make(nullptr, p, true).bytes, WideTile<BackwardScratch<float>>::Make(nullptr, p.head_dim).bytes};
  if (const MicroKernel* pairs = PairKernelFor(p); pairs != nullptr) {
    const PairShape z = PairShape::Make(*pairs, p);
    bytes.head = std::max(bytes.head, PairBackwardKeys::Make(nullptr, z, p.keys).bytes);
    bytes.tile = std::max(bytes.tile, PairBackwardTile::Make(nullptr, z).bytes);
  }
  return bytes;
}

void AttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  const AttentionProblem& p = args.problem;
  CheckProblem(p, args.scratch, AttentionForwardScratchBytes(p));
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);
  if (p.dtype == DType::kBF16) {
    const AttentionBytes bytes = Bf16ForwardBytes(p);
    return ForEachKeyHead(stream, Bf16Forward{args, p, PairKernelFor(p), bytes.head, bytes.tile}, args.scratch);
  }
  DispatchFloat(p.dtype, [&]<typename T>() {
    ForEachKeyHead(stream, FloatForward<T>{args, p, ForwardScratch<T>::Make(nullptr, p.head_dim).bytes}, args.scratch);
  });
}

void AttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  const AttentionProblem& p = args.problem;
  CheckProblem(p, args.scratch, AttentionBackwardScratchBytes(p));
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);
  if (p.dtype == DType::kBF16) {
    const AttentionBytes bytes = Bf16BackwardBytes(p);
    return ForEachKeyHead(stream, Bf16Backward{args, p, PairKernelFor(p), bytes.head, bytes.tile}, args.scratch);
  }
  DispatchFloat(p.dtype, [&]<typename T>() {
    ForEachKeyHead(stream, FloatBackward<T>{args, p, BackwardScratch<T>::Make(nullptr, p.head_dim).bytes}, args.scratch);
  });
}

}  // namespace lycia::cpu
