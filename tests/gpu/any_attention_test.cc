// Attention of every type, head size and mask that attention.h promises, against its specification in f64: on CUDA what the tensor cores
// of every chip serve (16-bit types, heads of whole 8 features), and the plain kernels. Outputs are poisoned and lie between guards.
// Hopper's kernels have a test of their own (attention_test).
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_ref.h"
#include "runtime/core/philox.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

struct Results {
  std::string out, log_sum_exp, dq, dk, dv;
  bool operator==(const Results&) const = default;
};

class AnyAttentionTest : public KernelFixture {
 protected:
  static AttentionProblem Problem(DType dtype, std::int64_t B, std::int64_t T, std::int64_t S, std::int64_t H, std::int64_t G,
                                  std::int64_t D) {
    return {.dtype = dtype,
            .samples = B,
            .queries = T,
            .keys = S,
            .heads = H,
            .kv_heads = G,
            .head_dim = D,
            .scale = 1 / std::sqrt(static_cast<double>(D))};
  }

  // Compares with the specification; the bits of all outputs.
  Results Check(const AttentionProblem& p) {
    SCOPED_TRACE(::testing::Message() << Name(p.dtype) << " B " << p.samples << " T " << p.queries << " S " << p.keys << " H " << p.heads
                                      << " G " << p.kv_heads << " D " << p.head_dim << " mask " << static_cast<int>(p.mask) << " first "
                                      << p.first_query << ' ' << p.first_key << " block " << p.blocks.block << " sequences "
                                      << p.sequence_offsets.size() << " dropout " << p.dropout.rate);
    const DType wide = ArithmeticDType(p.dtype);
    const std::int64_t rows = p.samples * p.queries, kv_rows = p.samples * p.keys;
    const Values q = Random(rows * p.heads * p.head_dim, "q", p.dtype), k = Random(kv_rows * p.kv_heads * p.head_dim, "k", p.dtype),
                 v = Random(kv_rows * p.kv_heads * p.head_dim, "v", p.dtype), dy = Random(rows * p.heads * p.head_dim, "dy", p.dtype);
    Values out(q.size()), lse(static_cast<std::size_t>(rows * p.heads)), dq(q.size()), dk(k.size()), dv(v.size());
    reference::AttentionForward(p, q.data(), k.data(), v.data(), out.data(), lse.data());
    reference::AttentionBackward(p, q.data(), k.data(), v.data(), dy.data(), dq.data(), dk.data(), dv.data());

    const Shape of_q{p.samples, p.queries, p.heads * p.head_dim}, of_k{p.samples, p.keys, p.kv_heads * p.head_dim};
    const Tensor tq = Put(q, p.dtype, of_q), tk = Put(k, p.dtype, of_k), tv = Put(v, p.dtype, of_k), tdy = Put(dy, p.dtype, of_q);
    const Tensor tout = Poisoned(p.dtype, of_q), tlse = Poisoned(wide, {p.samples, p.heads, p.queries}), tdq = Poisoned(p.dtype, of_q),
                 tdk = Poisoned(p.dtype, of_k), tdv = Poisoned(p.dtype, of_k);
    const Tensor scratch = Poisoned(DType::kU8, {AttentionForwardScratchBytes(p)}),
                 back_scratch = Poisoned(DType::kU8, {AttentionBackwardScratchBytes(p)});
    const ConstHeadsView hq = AsHeads(ConstTensor(tq), p.heads), hk = AsHeads(ConstTensor(tk), p.kv_heads),
                         hv = AsHeads(ConstTensor(tv), p.kv_heads);
    AttentionForward(*stream_,
                     {.problem = p, .q = hq, .k = hk, .v = hv, .out = AsHeads(tout, p.heads), .log_sum_exp = tlse, .scratch = scratch});
    AttentionBackward(*stream_, {.problem = p,
                                 .q = hq,
                                 .k = hk,
                                 .v = hv,
                                 .out = AsHeads(ConstTensor(tout), p.heads),
                                 .dout = AsHeads(ConstTensor(tdy), p.heads),
                                 .log_sum_exp = tlse,
                                 .dq = AsHeads(tdq, p.heads),
                                 .dk = AsHeads(tdk, p.kv_heads),
                                 .dv = AsHeads(tdv, p.kv_heads),
                                 .scratch = back_scratch});
    // What probabilities and out in bf16 or f16 leave (docs/numerics.md); else the roundings of sums.
    const double of_largest = p.dtype == DType::kBF16 ? 0x1p-6 : p.dtype == DType::kF16 ? 0x1p-9 : 4e-6;
    const testing::Tolerance near{.absolute = 4e-6, .of_largest = of_largest};
    ExpectNear("out", tout, out, near);
    ExpectNear("log_sum_exp", tlse, lse, {.absolute = 4e-6, .of_largest = 4e-6});
    ExpectNear("dq", tdq, dq, near);
    ExpectNear("dk", tdk, dk, near);
    ExpectNear("dv", tdv, dv, near);
    const Results results{Bytes(tout), Bytes(tlse), Bytes(tdq), Bytes(tdk), Bytes(tdv)};
    Release();
    return results;
  }
};

// The types of the tensor cores' kernels; f16 is CUDA's alone.
std::vector<DType> TiledDTypes(bool on_cuda) {
  return on_cuda ? std::vector<DType>{DType::kBF16, DType::kF16} : std::vector<DType>{DType::kBF16};
}

struct Size {
  std::int64_t B, T, S, H, G, D;
};
// Rows that end within tiles of 8 and 32, one feature and more than 128, shared key heads.
constexpr Size kSizes[] = {{1, 1, 1, 1, 1, 1}, {2, 7, 7, 2, 1, 5}, {1, 33, 33, 3, 3, 16}, {2, 9, 41, 4, 2, 33}, {1, 12, 5, 2, 2, 131}};

TEST_P(AnyAttentionTest, SizesAndTypes) {
  for (const DType dtype : Stored()) {
    for (const Size& s : kSizes) {
      for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
        AttentionProblem p = Problem(dtype, s.B, s.T, s.S, s.H, s.G, s.D);
        p.mask = mask;
        Check(p);
        if (HasFailure()) return;
      }
    }
  }
}

// What the tensor cores serve: tiles of 64 that end within, several of them on both sides, heads of the tiles' size and smaller ones.
constexpr Size kTiledSizes[] = {
    {1, 70, 150, 2, 1, 64}, {1, 66, 66, 2, 2, 128}, {2, 5, 130, 2, 1, 40}, {1, 1, 65, 1, 1, 8}, {1, 80, 33, 3, 1, 96}};

TEST_P(AnyAttentionTest, TilesOfTensorCores) {
  for (const DType dtype : TiledDTypes(on_cuda())) {
    for (const Size& s : kTiledSizes) {
      for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
        AttentionProblem p = Problem(dtype, s.B, s.T, s.S, s.H, s.G, s.D);
        p.mask = mask;
        Check(p);
        p.first_query = 70;  // the causal mask's edge within the second tile of keys, if there is one
        if (mask == MaskKind::kCausal) Check(p);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(AnyAttentionTest, TilesOfPackedSequences) {
  const std::vector<std::int32_t> offsets = {0, 3, 64, 64, 131, 150};
  for (const DType dtype : TiledDTypes(on_cuda())) {
    for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
      AttentionProblem p = Problem(dtype, 1, 150, 150, 2, 1, 16);
      p.mask = mask;
      p.sequence_offsets = offsets;
      Check(p);
    }
  }
}

TEST_P(AnyAttentionTest, TilesOfBlockMasks) {
  const std::vector<std::int32_t> first = {0, 2, 3, 3}, key_blocks = {0, 2, 1};  // the third block of queries sees nothing
  for (const DType dtype : TiledDTypes(on_cuda())) {
    for (const auto& [block, mask] : {std::pair<int, MaskKind>{64, MaskKind::kFull}, {64, MaskKind::kCausal}, {24, MaskKind::kFull}}) {
      AttentionProblem p = Problem(dtype, 1, 3 * block - 5, 3 * block - 2, 2, 2, 24);
      p.mask = mask;
      p.blocks = {.block = block, .first = first, .key_blocks = key_blocks};
      Check(p);
    }
  }
}

TEST_P(AnyAttentionTest, TilesWithDropout) {
  for (const DType dtype : TiledDTypes(on_cuda())) {
    for (const std::int64_t D : {16, 72}) {
      AttentionProblem p = Problem(dtype, 1, 75, 75, 2, 1, D);
      p.dropout = {
          .rate = 0.3, .random = RandomStream(5, "attention", 3), .first_sample = 3, .first_head = 1, .total_heads = 5, .length = 77};
      p.first_query = p.first_key = 1;
      EXPECT_EQ(Check(p), Check(p));  // the order of threads and blocks differs where kernels are emulated
    }
  }
}

// Where the results of a NaN are NaN too, and nowhere else: what the tiles of a query do not visit may hold anything, and so may keys,
// beside their values, that its mask hides.
TEST_P(AnyAttentionTest, TilesSpreadNoNan) {
  const std::int64_t T = 100, D = 16;
  const std::vector<std::int32_t> first = {0, 1, 3}, key_blocks = {0, 0, 1};
  for (const DType dtype : TiledDTypes(on_cuda())) {
    for (const bool causal : {false, true}) {
      AttentionProblem p = Problem(dtype, 1, T, T, 1, 1, D);
      p.mask = causal ? MaskKind::kCausal : MaskKind::kFull;
      if (!causal) p.blocks = {.block = 64, .first = first, .key_blocks = key_blocks};
      const Values q = Random(T * D, "q", dtype);
      Values k = Random(T * D, "k", dtype), v = Random(T * D, "v", dtype);
      (causal ? k[30 * D + 3] : v[70 * D + 5]) = NAN;  // seen by queries 30 and on; by those of the second block, in feature 5
      Values expected(q.size()), log_sum_exp(static_cast<std::size_t>(T));
      reference::AttentionForward(p, q.data(), k.data(), v.data(), expected.data(), log_sum_exp.data());
      const Shape shape{1, T, D};
      const Tensor out = Poisoned(dtype, shape), lse = Poisoned(DType::kF32, {1, 1, T});
      AttentionForward(*stream_, {.problem = p,
                                  .q = AsHeads(ConstTensor(Put(q, dtype, shape)), 1),
                                  .k = AsHeads(ConstTensor(Put(k, dtype, shape)), 1),
                                  .v = AsHeads(ConstTensor(Put(v, dtype, shape)), 1),
                                  .out = AsHeads(out, 1),
                                  .log_sum_exp = lse,
                                  .scratch = Poisoned(DType::kU8, {AttentionForwardScratchBytes(p)})});
      const Values result = Get(out), sums = Get(lse);
      int spread = 0;
      for (std::size_t i = 0; i < result.size(); ++i) {
        EXPECT_EQ(std::isnan(result[i]), std::isnan(expected[i]))
            << static_cast<std::int64_t>(i) / D << ' ' << static_cast<std::int64_t>(i) % D;
        if (std::isnan(expected[i])) {
          ++spread;
        } else {
          EXPECT_NEAR(result[i], expected[i], 0x1p-6) << static_cast<std::int64_t>(i) / D << ' ' << static_cast<std::int64_t>(i) % D;
        }
      }
      EXPECT_EQ(spread, causal ? 70 * D : 36);
      for (std::size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(std::isnan(sums[i]), causal && i >= 30) << i;
      Release();
    }
  }
}

TEST_P(AnyAttentionTest, Offsets) {
  for (const auto& [first_query, first_key] : {std::pair<int, int>{10, 0}, {0, 6}, {3, 20}}) {  // the last: nobody sees a key
    AttentionProblem p = Problem(DType::kF32, 1, 13, 11, 2, 1, 6);
    p.first_query = first_query;
    p.first_key = first_key;
    Check(p);
  }
}

TEST_P(AnyAttentionTest, DropoutHasTheBitsOfTheFormula) {
  for (const DType dtype : Stored()) {
    for (const double rate : {0.2, 0.9}) {
      AttentionProblem p = Problem(dtype, 2, 37, 37, 2, 2, 8);
      p.dropout = {
          .rate = rate, .random = RandomStream(5, "attention", 3), .first_sample = 7, .first_head = 2, .total_heads = 6, .length = 64};
      p.first_query = p.first_key = 4;
      Check(p);
    }
  }
}

TEST_P(AnyAttentionTest, PackedSequences) {
  for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
    const std::vector<std::int32_t> offsets = {0, 1, 9, 36, 41};
    AttentionProblem p = Problem(DType::kF32, 1, 41, 41, 2, 1, 9);
    p.mask = mask;
    p.sequence_offsets = offsets;
    Check(p);
  }
}

TEST_P(AnyAttentionTest, BlockMask) {
  const std::vector<std::int32_t> first = {0, 1, 3, 3, 5}, key_blocks = {0, 0, 2, 1, 3};  // the third block of queries sees nothing
  AttentionProblem p = Problem(DType::kF32, 2, 29, 31, 2, 2, 7);
  p.mask = MaskKind::kFull;
  p.blocks = {.block = 8, .first = first, .key_blocks = key_blocks};
  Check(p);
}

TEST_P(AnyAttentionTest, RunsHaveTheSameBits) {
  AttentionProblem p = Problem(DType::kF32, 2, 35, 35, 4, 2, 12);
  p.dropout = {.rate = 0.3, .random = RandomStream(5, "attention", 3), .total_heads = 4, .length = 35};
  EXPECT_EQ(Check(p), Check(p));
}

TEST_P(AnyAttentionTest, NothingHiddenIsReadAndNothingWrongIsLost) {
  const std::int64_t T = 6, D = 4;
  AttentionProblem p = Problem(DType::kF32, 1, T, T, 1, 1, D);
  Values v(static_cast<std::size_t>(T * D), 1.0);
  v.back() = NAN;  // of the last key, which only the last query sees
  const Values ones(static_cast<std::size_t>(T * D), 1.0);
  const Tensor rows = Put(ones, p.dtype, {1, T, D}), values = Put(v, p.dtype, {1, T, D}), out = Poisoned(p.dtype, {1, T, D});
  const ConstHeadsView heads = AsHeads(ConstTensor(rows), 1);
  const auto forward = [&](const ConstHeadsView& q) {
    AttentionForward(*stream_, {.problem = p,
                                .q = q,
                                .k = heads,
                                .v = AsHeads(ConstTensor(values), 1),
                                .out = AsHeads(out, 1),
                                .log_sum_exp = Poisoned(DType::kF32, {1, 1, T}),
                                .scratch = Poisoned(DType::kU8, {AttentionForwardScratchBytes(p)})});
    return Get(out);
  };
  Values result = forward(heads);
  for (std::size_t i = 0; i + 1 < result.size(); ++i) EXPECT_NEAR(result[i], 1, 1e-6) << i;
  EXPECT_TRUE(std::isnan(result.back()));
  Values q = ones;
  q[0] = NAN;  // of the first query
  result = forward(AsHeads(ConstTensor(Put(q, p.dtype, {1, T, D})), 1));
  EXPECT_TRUE(std::isnan(result[0]));
  EXPECT_NEAR(result[static_cast<std::size_t>(D)], 1, 1e-6);
  Release();
}

LYCIA_INSTANTIATE_KERNEL_TESTS(AnyAttentionTest);

}  // namespace
}  // namespace lycia
