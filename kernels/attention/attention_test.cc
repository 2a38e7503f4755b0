#include "kernels/attention/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/attention/attention_ref.h"
#include "kernels/attention/attention_rounded.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/gemm/testing/gemm_case.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::AttentionSize;
using testing::Complex;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;
using testing::Tolerance;

AttentionProblem ProblemOf(DType dtype, const AttentionSize& z, MaskKind mask, double dropout = 0) {
  AttentionProblem p{.dtype = dtype,
                     .samples = z.B,
                     .queries = z.T,
                     .keys = z.S,
                     .heads = z.H,
                     .kv_heads = z.G,
                     .head_dim = z.D,
                     .scale = 1 / std::sqrt(static_cast<double>(z.D)),
                     .mask = mask};
  if (z.S > z.T) p.first_query = z.S - z.T;  // the queries are the last positions, as when generating
  p.dropout = {.rate = dropout,
               .random = RandomStream(3, "dropout/h.0.attn", 7),
               .first_sample = 5,
               .first_head = 2,
               .total_heads = z.H + 3,
               .length = std::max(z.T, z.S) + p.first_query};
  return p;
}

// Inputs, results of the kernel, and what the reference says, all in f64.
struct Case {
  AttentionProblem p;
  std::vector<double> q, k, v, dout;
  std::vector<double> out, log_sum_exp, dq, dk, dv;

  explicit Case(const AttentionProblem& problem) : p(problem) {
    const std::int64_t queries = p.samples * p.queries * p.heads * p.head_dim, keys = p.samples * p.keys * p.kv_heads * p.head_dim;
    q = RoundTo(p.dtype, RandomValues(queries, "q", 1.5));
    k = RoundTo(p.dtype, RandomValues(keys, "k", 1.5));
    v = RoundTo(p.dtype, RandomValues(keys, "v"));
    dout = RoundTo(p.dtype, RandomValues(queries, "dout"));
  }

  void RunReference() {
    out.resize(q.size()), dq.resize(q.size()), dk.resize(k.size()), dv.resize(v.size());
    log_sum_exp.resize(static_cast<std::size_t>(p.samples * p.heads * p.queries));
    reference::AttentionForward(p, q.data(), k.data(), v.data(), out.data(), log_sum_exp.data());
    reference::AttentionBackward(p, q.data(), k.data(), v.data(), dout.data(), dq.data(), dk.data(), dv.data());
  }

  Shape q_shape() const { return {p.samples, p.queries, p.heads * p.head_dim}; }
  Shape kv_shape() const { return {p.samples, p.keys, p.kv_heads * p.head_dim}; }

  // Results in the order of the members.
  struct Results {
    std::vector<double> out, log_sum_exp, dq, dk, dv;
    bool operator==(const Results&) const = default;
  };
  // The caller's workspace serves heads that threads share, and nothing else.
  static constexpr char kUntouched = 0x55;
  mutable bool heads_were_shared = false;
  Results RunKernel(const CpuOptions& cpu = {}) const {
    const CpuStream stream(cpu);
    const TestTensor tq(p.dtype, q_shape(), q), tk(p.dtype, kv_shape(), k), tv(p.dtype, kv_shape(), v), tdout(p.dtype, q_shape(), dout);
    const TestTensor to(p.dtype, q_shape()), lse(ArithmeticDType(p.dtype), {p.samples, p.heads, p.queries});
    const TestTensor dq(p.dtype, q_shape()), dk(p.dtype, kv_shape()), dv(p.dtype, kv_shape());
    const TestTensor forward(DType::kU8, {AttentionForwardScratchBytes(p)}), backward(DType::kU8, {AttentionBackwardScratchBytes(p)});
    for (const TestTensor* scratch : {&forward, &backward}) {  // NaN in bf16, f32 and f64: what is read before it is written shows
      std::memset(scratch->tensor().data, 0xFF, static_cast<std::size_t>(scratch->tensor().bytes()));
    }
    const std::span<char> workspace = stream->pool()->workspace(0);
    if (!workspace.empty()) workspace[0] = kUntouched;
    AttentionForward(*stream, {.problem = p,
                               .q = AsHeads(ConstTensor(tq), p.heads),
                               .k = AsHeads(ConstTensor(tk), p.kv_heads),
                               .v = AsHeads(ConstTensor(tv), p.kv_heads),
                               .out = AsHeads(to.tensor(), p.heads),
                               .log_sum_exp = lse,
                               .scratch = forward});
    AttentionBackward(*stream, {.problem = p,
                                .q = AsHeads(ConstTensor(tq), p.heads),
                                .k = AsHeads(ConstTensor(tk), p.kv_heads),
                                .v = AsHeads(ConstTensor(tv), p.kv_heads),
                                .out = AsHeads(ConstTensor(to), p.heads),
                                .dout = AsHeads(ConstTensor(tdout), p.heads),
                                .log_sum_exp = lse,
                                .dq = AsHeads(dq.tensor(), p.heads),
                                .dk = AsHeads(dk.tensor(), p.kv_heads),
                                .dv = AsHeads(dv.tensor(), p.kv_heads),
                                .scratch = backward});
    EXPECT_TRUE(stream->ok());
    heads_were_shared = !workspace.empty() && workspace[0] != kUntouched;
    return {to.values(), lse.values(), dq.values(), dk.values(), dv.values()};
  }

  void ExpectKernelEqualsReference() const {
    const Results r = RunKernel();
    const Shape q4{p.samples, p.queries, p.heads, p.head_dim}, kv4{p.samples, p.keys, p.kv_heads, p.head_dim};
    const double unit = p.dtype == DType::kF64 ? 1e-14 : 3e-6;
    const testing::Tolerance tolerance{.absolute = unit, .of_largest = unit};
    EXPECT_TRUE(AllNear(r.log_sum_exp, log_sum_exp, tolerance, {p.samples, p.heads, p.queries})) << "log_sum_exp";
    if (p.dtype == DType::kBF16) {
      const AttentionResults rounded = RoundedAttention(p, q, k, v, dout);
      ExpectAsNearAsRounding(r.out, out, rounded.out, "out");
      ExpectAsNearAsRounding(r.dq, dq, rounded.dq, "dq");
      ExpectAsNearAsRounding(r.dk, dk, rounded.dk, "dk");
      ExpectAsNearAsRounding(r.dv, dv, rounded.dv, "dv");
      return;
    }
    EXPECT_TRUE(AllNear(r.out, out, tolerance, q4)) << "out";
    EXPECT_TRUE(AllNear(r.dq, dq, tolerance, q4)) << "dq";
    EXPECT_TRUE(AllNear(r.dk, dk, tolerance, kv4)) << "dk";
    EXPECT_TRUE(AllNear(r.dv, dv, tolerance, kv4)) << "dv";
  }

  // bf16: twice the error (2-norm) that its roundings alone make in f64, or a single one of the value; and nowhere four times the largest.
  static void ExpectAsNearAsRounding(const std::vector<double>& actual, const std::vector<double>& expected,
                                     const std::vector<double>& rounded, const char* what) {
    double error = 0, allowed = 0, largest_error = 0, largest_allowed = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double e = std::abs(actual[i] - expected[i]), a = std::max(std::abs(rounded[i] - expected[i]), std::abs(expected[i]) * 0x1p-9);
      error += e * e, allowed += a * a;
      largest_error = e <= largest_error ? largest_error : e;  // a NaN stays
      largest_allowed = std::max(largest_allowed, a);
    }
    EXPECT_LE(std::sqrt(error), 2 * std::sqrt(allowed) + 1e-5) << what << ", norm of the error";
    EXPECT_LE(largest_error, 4 * largest_allowed + 1e-5) << what;
  }
};

TEST(AttentionReference, GradientsEqualTheComplexStep) {
  for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
    for (const double dropout : {0.0, 0.3}) {
      Case c(ProblemOf(DType::kF64, {2, 4, 5, 4, 2, 3}, mask, dropout));
      c.RunReference();
      const auto loss = [&](const std::vector<Complex>& q, const std::vector<Complex>& k, const std::vector<Complex>& v) {
        std::vector<Complex> out(c.q.size()), lse(c.log_sum_exp.size());
        reference::AttentionForward(c.p, q.data(), k.data(), v.data(), out.data(), lse.data());
        return testing::Weighted(out, c.dout);
      };
      const auto q = testing::ToComplex(c.q), k = testing::ToComplex(c.k), v = testing::ToComplex(c.v);
      EXPECT_TRUE(AllNear(c.dq, testing::ComplexStepGradient(c.q, [&](const auto& x) { return loss(x, k, v); }), {.of_largest = 1e-13}));
      EXPECT_TRUE(AllNear(c.dk, testing::ComplexStepGradient(c.k, [&](const auto& x) { return loss(q, x, v); }), {.of_largest = 1e-13}));
      EXPECT_TRUE(AllNear(c.dv, testing::ComplexStepGradient(c.v, [&](const auto& x) { return loss(q, k, x); }), {.of_largest = 1e-13}));
    }
  }
}

TEST(Attention, EqualsTheReference) {
  for (const AttentionSize& size : testing::kAttentionSizes) {
    for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
      for (const double dropout : {0.0, 0.25}) {
        for (const DType dtype : testing::kStoredDTypes) {
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " B " << size.B << " T " << size.T << " S " << size.S << " H " << size.H
                                            << " G " << size.G << " D " << size.D << " causal " << (mask == MaskKind::kCausal)
                                            << " dropout " << dropout);
          Case c(ProblemOf(dtype, size, mask, dropout));
          c.RunReference();
          testing::ForEveryIsa([&] { c.ExpectKernelEqualsReference(); });
          if (dtype == DType::kBF16 && cpu::BestIsa() == cpu::Isa::kAvx512) {
            testing::ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
              if (kernel.pairs) c.ExpectKernelEqualsReference();
            });
          }
        }
      }
    }
  }
}

// Tiles that blocks of a mask cut at multiples of a tile, on the kernels that multiply pairs.
TEST(Attention, PairsFollowABlockMask) {
  if (cpu::BestIsa() != cpu::Isa::kAvx512) GTEST_SKIP() << "needs AVX-512";
  const std::vector<std::int32_t> first = {0, 1, 1, 3}, key_blocks = {0, 0, 2};
  testing::ForEveryKernel(DType::kBF16, [&](const cpu::MicroKernel& kernel) {
    if (!kernel.pairs) return;
    for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
      AttentionProblem p = ProblemOf(DType::kBF16, {1, 150, 150, 2, 1, 20}, mask, 0.2);
      p.blocks = {.block = 64, .first = first, .key_blocks = key_blocks};
      Case c(p);
      c.RunReference();
      c.ExpectKernelEqualsReference();
    }
  });
}

TEST(Attention, PackedSequencesDoNotSeeEachOther) {
  const std::vector<std::int32_t> offsets = {0, 1, 40, 40, 130, 133};
  for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
    AttentionProblem p = ProblemOf(DType::kF64, {1, 133, 133, 2, 1, 5}, mask);
    p.sequence_offsets = offsets;
    Case c(p);
    c.RunReference();
    c.ExpectKernelEqualsReference();
    // A sequence alone is the same bits.
    const auto packed = c.RunKernel();
    Case alone(ProblemOf(DType::kF64, {1, 39, 39, 2, 1, 5}, mask));
    alone.q.assign(c.q.begin() + 1 * 10, c.q.begin() + 40 * 10);
    alone.k.assign(c.k.begin() + 1 * 5, c.k.begin() + 40 * 5);
    alone.v.assign(c.v.begin() + 1 * 5, c.v.begin() + 40 * 5);
    alone.dout.assign(c.dout.begin() + 1 * 10, c.dout.begin() + 40 * 10);
    EXPECT_EQ(alone.RunKernel().dq, std::vector<double>(packed.dq.begin() + 1 * 10, packed.dq.begin() + 40 * 10));
  }
}

TEST(Attention, BlockMaskSkipsBlocks) {
  // Blocks of 24: three of queries (the last short), four of keys. Query block 1 visits nothing.
  const std::vector<std::int32_t> first = {0, 2, 2, 5}, key_blocks = {0, 3, 0, 1, 2};
  for (const DType dtype : testing::kStoredDTypes) {
    for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
      AttentionProblem p = ProblemOf(dtype, {2, 61, 80, 2, 2, 6}, mask, 0.2);
      p.blocks = {.block = 24, .first = first, .key_blocks = key_blocks};
      Case c(p);
      c.RunReference();
      c.ExpectKernelEqualsReference();
    }
  }
}

// What no mask lets through: not even a NaN of rows that stand in the same tiles. Queries before `row` do not see key `row`, nor keys after
// it query `row`. To the bit; but kernels of pairs (AVX-512) leave such heads to the kernel of the wider type (attention_cpu.cc), which
// rounds less on the way.
TEST(Attention, WhatIsHiddenLeavesNoTrace) {
  constexpr std::int64_t kLength = 100, kHeads = 4, kKeyHeads = 2, kDim = 20;
  const auto rows = [](const std::vector<double>& x, std::int64_t begin, std::int64_t end) {
    const std::int64_t width = static_cast<std::int64_t>(x.size()) / kLength;
    return std::vector<double>(x.begin() + begin * width, x.begin() + end * width);
  };
  const auto check = [&](const AttentionProblem& p) {
    const Case clean(p);
    const Case::Results truth = clean.RunKernel();
    // Rows [begin, end). A query that sees one key has a gradient of nothing but rounding: the whole tensor says how large that may be.
    const auto same = [&](const std::vector<double>& actual, const std::vector<double>& expected, std::int64_t begin, std::int64_t end) {
      double largest = 0;
      for (const double x : expected) largest = std::max(largest, std::abs(x));
      const bool pairs = p.dtype == DType::kBF16 && cpu::internal::SelectedIsa() == cpu::Isa::kAvx512;
      const Tolerance tolerance = pairs ? Tolerance{.absolute = 0x1p-6 * largest, .relative = 0x1p-7} : Tolerance{};
      return AllNear(rows(actual, begin, end), rows(expected, begin, end), tolerance);
    };
    for (const std::int64_t row : {1, 70}) {
      for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        SCOPED_TRACE(::testing::Message() << Name(p.dtype) << " row " << row << " is " << bad << ", dropout " << p.dropout.rate);
        Case keys = clean, queries = clean, values = clean;
        for (std::int64_t d = 0; d < kKeyHeads * kDim; ++d) {
          const auto at = static_cast<std::size_t>(row * kKeyHeads * kDim + d);
          keys.k[at] = keys.v[at] = values.v[at] = bad;
        }
        for (std::int64_t d = 0; d < kHeads * kDim; ++d) {
          const auto at = static_cast<std::size_t>(row * kHeads * kDim + d);
          queries.q[at] = queries.dout[at] = bad;
        }
        const Case::Results of_keys = keys.RunKernel(), of_queries = queries.RunKernel(), of_values = values.RunKernel();
        EXPECT_TRUE(same(of_keys.out, truth.out, 0, row));
        EXPECT_TRUE(same(of_keys.dq, truth.dq, 0, row));
        EXPECT_TRUE(same(of_queries.dk, truth.dk, row + 1, kLength));
        EXPECT_TRUE(same(of_queries.dv, truth.dv, row + 1, kLength));
        EXPECT_TRUE(same(of_values.dv, truth.dv, 0, kLength));  // a function of probabilities and dout
        for (const std::int64_t t : {row, kLength - 1}) {       // who sees it knows
          EXPECT_TRUE(p.dropout.rate > 0 || !std::isfinite(rows(of_keys.out, t, t + 1)[0])) << t;
        }
        EXPECT_TRUE(std::isnan(rows(of_queries.dk, 0, 1)[0]));
      }
    }
  };
  for (const DType dtype : testing::kStoredDTypes) {
    for (const double dropout : {0.0, 0.25}) {
      const AttentionProblem p = ProblemOf(dtype, {1, kLength, kLength, kHeads, kKeyHeads, kDim}, MaskKind::kCausal, dropout);
      testing::ForEveryIsa([&] { check(p); });
    }
  }
}

TEST(Attention, AQueryThatSeesNothingIsZeroAndSoIsItsGradient) {
  AttentionProblem p = ProblemOf(DType::kF32, {1, 5, 3, 1, 1, 4}, MaskKind::kCausal);
  p.first_key = 2;  // queries 0 and 1 come before every key
  const auto r = Case(p).RunKernel();
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(r.out[i], 0);
    EXPECT_EQ(r.dq[i], 0);
  }
  EXPECT_EQ(r.log_sum_exp[1], -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isfinite(r.log_sum_exp[2]));
}

// Packed q | k | v rows and their strides: the same bits as separate tensors.
TEST(Attention, PackedRowsEqualSeparateTensors) {
  CpuStream stream;
  Case c(ProblemOf(DType::kF32, {2, 20, 20, 4, 2, 3}, MaskKind::kCausal));
  const AttentionProblem& p = c.p;
  const std::int64_t row = (4 + 2 * 2) * 3;
  std::vector<double> packed(static_cast<std::size_t>(2 * 20 * row));
  for (std::size_t t = 0; t < 40; ++t) {
    std::copy_n(c.q.begin() + static_cast<std::int64_t>(t) * 12, 12, packed.begin() + static_cast<std::int64_t>(t) * row);
    std::copy_n(c.k.begin() + static_cast<std::int64_t>(t) * 6, 6, packed.begin() + static_cast<std::int64_t>(t) * row + 12);
    std::copy_n(c.v.begin() + static_cast<std::int64_t>(t) * 6, 6, packed.begin() + static_cast<std::int64_t>(t) * row + 18);
  }
  const TestTensor qkv(DType::kF32, {2, 20, row}, packed), out(DType::kF32, {2, 20, 12}), dout(DType::kF32, {2, 20, 12}, c.dout);
  const TestTensor lse(DType::kF32, {2, 4, 20}), dqkv(DType::kF32, {2, 20, row}), scratch(DType::kU8, {AttentionBackwardScratchBytes(p)});
  const auto in = SplitQkv(ConstTensor(qkv), 4, 2);
  const auto gradient = SplitQkv(dqkv.tensor(), 4, 2);
  AttentionForward(
      *stream, {.problem = p, .q = in.q, .k = in.k, .v = in.v, .out = AsHeads(out.tensor(), 4), .log_sum_exp = lse, .scratch = scratch});
  AttentionBackward(*stream, {.problem = p,
                              .q = in.q,
                              .k = in.k,
                              .v = in.v,
                              .out = AsHeads(ConstTensor(out), 4),
                              .dout = AsHeads(ConstTensor(dout), 4),
                              .log_sum_exp = lse,
                              .dq = gradient.q,
                              .dk = gradient.k,
                              .dv = gradient.v,
                              .scratch = scratch});
  const auto separate = c.RunKernel();
  EXPECT_EQ(out.values(), separate.out);
  const auto values = dqkv.values();
  for (std::int64_t t = 0; t < 40; ++t) {
    const auto at = [&](std::int64_t begin, std::int64_t n) {
      return std::vector<double>(values.begin() + t * row + begin, values.begin() + t * row + begin + n);
    };
    EXPECT_EQ(at(0, 12), std::vector<double>(separate.dq.begin() + t * 12, separate.dq.begin() + t * 12 + 12));
    EXPECT_EQ(at(12, 6), std::vector<double>(separate.dk.begin() + t * 6, separate.dk.begin() + t * 6 + 6));
    EXPECT_EQ(at(18, 6), std::vector<double>(separate.dv.begin() + t * 6, separate.dv.begin() + t * 6 + 6));
  }
}

// Samples one by one, with their global index, are what all of them together are: dropout and sums do not see the micro-batch.
TEST(Attention, DoesNotDependOnTheMicroBatch) {
  Case all(ProblemOf(DType::kF32, {3, 33, 33, 2, 2, 8}, MaskKind::kCausal, 0.3));
  const auto together = all.RunKernel();
  const auto part = [](const std::vector<double>& x, std::size_t sample) {
    const std::size_t n = x.size() / 3;
    return std::vector<double>(x.begin() + static_cast<std::int64_t>(sample * n), x.begin() + static_cast<std::int64_t>((sample + 1) * n));
  };
  for (const std::size_t sample : {2, 0, 1}) {
    Case one(all.p);
    one.p.samples = 1;
    one.p.dropout.first_sample += static_cast<std::int64_t>(sample);
    one.q = part(all.q, sample), one.k = part(all.k, sample), one.v = part(all.v, sample), one.dout = part(all.dout, sample);
    const auto alone = one.RunKernel();
    EXPECT_EQ(alone.out, part(together.out, sample));
    EXPECT_EQ(alone.dq, part(together.dq, sample));
    EXPECT_EQ(alone.dk, part(together.dk, sample));
    EXPECT_EQ(alone.dv, part(together.dv, sample));
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  Case c(ProblemOf(DType::kF32, {1, 70, 70, 1, 1, 4}, MaskKind::kCausal));
  for (double& x : c.q) x *= 100;
  for (double& x : c.k) x *= 100;
  const auto r = c.RunKernel();
  for (double x : r.out) ASSERT_TRUE(std::isfinite(x));
  for (double x : r.dk) ASSERT_TRUE(std::isfinite(x));
  for (std::size_t d = 0; d < 4; ++d) EXPECT_NEAR(r.out[d], c.v[d], 1e-6);  // query 0 sees key 0 only
}

// Key heads that threads are too many for, and those too long for a workspace, are shared by threads: to the bit what one thread gives.
TEST(Attention, SharedHeadsHaveTheBitsOfOneThread) {
  const auto bits = [](const Case::Results& r) {
    std::vector<std::uint64_t> all;
    for (const auto* values : {&r.out, &r.log_sum_exp, &r.dq, &r.dk, &r.dv}) {
      for (const double x : *values) all.push_back(std::bit_cast<std::uint64_t>(x));
    }
    return all;
  };
  const auto check = [&](const Case& c, const char* what) {
    const auto alone = bits(c.RunKernel());
    EXPECT_FALSE(c.heads_were_shared);
    const std::int64_t forward = AttentionForwardScratchBytes(c.p), backward = AttentionBackwardScratchBytes(c.p);
    for (const int threads : {2, 3, 5}) {
      // Less than a head and a tile of the backward; of f32, whose scratch is that of a tile, no less.
      const std::int64_t small = c.p.dtype == DType::kBF16 ? backward - 128 : std::max(forward, backward) + 4096;
      for (const std::int64_t workspace_bytes : {std::int64_t{8} << 20, small}) {
        EXPECT_EQ(bits(c.RunKernel({.threads = threads, .workspace_bytes = workspace_bytes})), alone)
            << what << " " << Name(c.p.dtype) << ", " << threads << " threads, workspace of " << workspace_bytes;
        EXPECT_TRUE(c.heads_were_shared) << what << " " << Name(c.p.dtype) << ", " << threads << " threads";
      }
    }
  };
  const std::vector<std::int32_t> offsets = {0, 1, 40, 40, 230, 300}, first = {0, 2, 2, 3, 5}, key_blocks = {0, 3, 2, 0, 1};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
      check(Case(ProblemOf(dtype, {1, 300, 300, 1, 1, 20}, mask)), "one head");
      check(Case(ProblemOf(dtype, {1, 300, 330, 14, 7, 8}, mask, 0.2)), "seven key heads of two");
      Case packed(ProblemOf(dtype, {1, 300, 300, 2, 1, 8}, mask));
      packed.p.sequence_offsets = offsets;
      check(packed, "packed sequences");
      Case blocks(ProblemOf(dtype, {1, 300, 300, 1, 1, 8}, mask));
      blocks.p.blocks = {.block = 80, .first = first, .key_blocks = key_blocks};
      check(blocks, "blocks");
    }
    Case hidden(ProblemOf(dtype, {1, 300, 300, 1, 1, 20}, MaskKind::kCausal));
    hidden.v[250 * 20] = std::numeric_limits<double>::infinity();
    check(hidden, "an infinity under the mask");
  }
}

// What a kernel that keeps T x T probabilities cannot do: scratch for a million tokens is that for one, and smaller than one row of scores.
TEST(Attention, ScratchDoesNotGrowWithTheSequence) {
  const AttentionProblem short_one = ProblemOf(DType::kF32, {1, 1, 1, 1, 1, 64}, MaskKind::kCausal);
  const AttentionProblem long_one = ProblemOf(DType::kF32, {8, 1 << 20, 1 << 20, 16, 16, 64}, MaskKind::kCausal);
  EXPECT_EQ(AttentionForwardScratchBytes(short_one), AttentionForwardScratchBytes(long_one));
  EXPECT_EQ(AttentionBackwardScratchBytes(short_one), AttentionBackwardScratchBytes(long_one));
  EXPECT_LT(AttentionBackwardScratchBytes(long_one), (std::int64_t{1} << 20) * 4);
}

TEST(Attention, FlopsCountTwoProducts) {
  const AttentionProblem full = ProblemOf(DType::kF32, {2, 10, 20, 3, 3, 4}, MaskKind::kFull);
  EXPECT_EQ(AttentionForwardFlops(full), 2.0 * 2 * (2 * 3 * 10 * 20 * 4));
  const AttentionProblem causal = ProblemOf(DType::kF32, {2, 20, 20, 3, 3, 4}, MaskKind::kCausal);
  EXPECT_EQ(AttentionForwardFlops(causal), 2.0 * 2 * (2 * 3 * 20 * 20 * 4) / 2);
}

}  // namespace
}  // namespace lycia
