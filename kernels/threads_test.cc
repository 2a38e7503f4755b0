// Every kernel gives the same bits on one thread and on three: what is cut over threads does not depend on the cut.
#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/activation/gelu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/attention/attention.h"
#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "kernels/parts/bias.h"
#include "kernels/parts/embedding_part.h"
#include "kernels/parts/loss_part.h"
#include "kernels/parts/norm_part.h"
#include "kernels/rotary/rotary.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::RandomValues;
using testing::TestTensor;

// Large enough to be cut, and no multiple of anything.
constexpr std::int64_t R = 67, C = 515;

// Tensors by their place in the order of making; all are compared.
class Tensors {
 public:
  explicit Tensors(DType dtype) : dtype_(dtype) {}
  const TestTensor& Of(DType dtype, const Shape& shape) {
    tensors_.push_back(std::make_unique<TestTensor>(dtype, shape, RandomValues(shape.elements(), StrCat(tensors_.size()))));
    return *tensors_.back();
  }
  const TestTensor& Stored(const Shape& shape) { return Of(dtype_, shape); }
  const TestTensor& Sums(const Shape& shape) { return Of(ArithmeticDType(dtype_), shape); }
  const TestTensor& Integers(const Shape& shape, std::int64_t below) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < shape.elements(); ++i) values.push_back(static_cast<double>(i * 7 % below));
    tensors_.push_back(std::make_unique<TestTensor>(DType::kI32, shape, values));
    return *tensors_.back();
  }
  std::vector<std::vector<double>> values() const {
    std::vector<std::vector<double>> all;
    for (const auto& tensor : tensors_) all.push_back(tensor->tensor().dtype == DType::kU8 ? std::vector<double>() : tensor->values());
    return all;
  }
  DType dtype() const { return dtype_; }

 private:
  DType dtype_;
  std::vector<std::unique_ptr<TestTensor>> tensors_;
};

void ExpectSameBits(const char* name, const std::function<void(Stream&, Tensors&)>& run) {
  for (const DType dtype : testing::kStoredDTypes) {
    SCOPED_TRACE(::testing::Message() << name << " " << Name(dtype));
    const CpuStream one, three({.threads = 3});
    Tensors alone(dtype), together(dtype);
    run(*one, alone);
    run(*three, together);
    EXPECT_EQ(alone.values(), together.values());
    EXPECT_TRUE(three->ok());
  }
}

TEST(Threads, ElementsAndRows) {
  ExpectSameBits("elements", [](Stream& s, Tensors& t) {
    Add(s, {.a = t.Stored({R, C}), .b = t.Stored({R, C}), .out = t.Stored({R, C})});
    Scale(s, {.values = t.Stored({R, C}), .factor = 0.3});
    Convert(s, {.in = t.Stored({R, C}), .out = t.Of(DType::kBF16, {R, C})});
    GeluForward(s, {.in = t.Stored({R, C}), .out = t.Stored({R, C})});
    GeluBackward(s, {.in = t.Stored({R, C}), .dout = t.Stored({R, C}), .din = t.Stored({R, C})});
    SwiGluForward(s, {.in = t.Stored({R, 2 * C}), .out = t.Stored({R, C})});
    SwiGluBackward(s, {.in = t.Stored({R, 2 * C}), .dout = t.Stored({R, C}), .din = t.Stored({R, 2 * C})});
    const DropoutMask mask{.rate = 0.3, .random = RandomStream(1, "x", 2), .first_index = 3};
    DropoutForward(s, {.in = t.Stored({R, C}), .residual = t.Stored({R, C}), .out = t.Stored({R, C}), .mask = mask});
    AddBias(s, {.rows = t.Stored({R, C}), .bias = t.Stored({C})});
    const TestTensor &cosines = t.Sums({R, 64}), &sines = t.Sums({R, 64});
    Rotary(s, {.rows = t.Stored({2, R, C}), .cosines = cosines, .sines = sines, .heads = 4});
  });
}

TEST(Threads, Norms) {
  ExpectSameBits("norms", [](Stream& s, Tensors& t) {
    const TestTensor &in = t.Stored({R, C}), &dout = t.Stored({R, C}), &gamma = t.Stored({C}), &beta = t.Stored({C});
    const TestTensor &mean = t.Sums({R}), &rstd = t.Sums({R}), &out = t.Stored({R, C});
    LayerNormForward(s, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
    LayerNormBackwardInput(s, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = t.Stored({R, C})});
    LayerNormBackwardWeight(s, {.dout = dout, .in = in, .mean = mean, .rstd = rstd, .dgamma = t.Sums({C}), .dbeta = t.Sums({C})});
    AddLayerNormForward(s, {.in = in,
                            .residual = dout,
                            .sum = t.Stored({R, C}),
                            .gamma = gamma,
                            .beta = beta,
                            .out = t.Stored({R, C}),
                            .mean = t.Sums({R}),
                            .rstd = t.Sums({R})});
    RmsNormForward(s, {.in = in, .gamma = gamma, .out = out, .rstd = rstd});
    RmsNormBackwardInput(s, {.dout = dout, .in = in, .gamma = gamma, .rstd = rstd, .din = t.Stored({R, C})});
    RmsNormBackwardWeight(s, {.dout = dout, .in = in, .rstd = rstd, .dgamma = t.Sums({C})});
    const TestTensor &moments = t.Sums({1, R, 2}), &sums = t.Sums({1, R, 2});
    RowMoments(s, {.in = in, .moments = moments});
    NormalisePart(s, {.in = in, .gamma = gamma, .beta = beta, .mean = mean, .rstd = rstd, .out = t.Stored({R, C})});
    NormGradientSums(s, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .sums = sums});
    NormPartBackwardInput(s, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .sums = sums, .din = t.Stored({R, C})});
  });
}

TEST(Threads, EmbeddingAndLoss) {
  ExpectSameBits("embedding and loss", [](Stream& s, Tensors& t) {
    const TestTensor &tokens = t.Integers({2, R}, 11), &rows = t.Stored({2, R, C});
    EmbeddingForward(s, {.tokens = tokens, .wte = t.Stored({11, C}), .wpe = t.Stored({R, C}), .out = rows});
    EmbeddingBackward(s, {.tokens = tokens, .dout = rows, .dwte = t.Sums({11, C}), .dwpe = t.Sums({R, C})});
    EmbeddingPartBackward(s, {.tokens = tokens, .dout = rows, .first = 3, .dtable = t.Sums({5, C})});
    AddPositions(s, {.rows = t.Stored({2 * R, C}), .table = t.Stored({R, C}), .position = {.length = R}});
    AddPositionsBackward(s, {.drows = rows, .dtable = t.Sums({R, C}), .position = {.length = R}});
    const TestTensor &labels = t.Integers({2, R}, C), &logits = t.Stored({2, R, C}), &losses = t.Of(DType::kF64, {2});
    CrossEntropy(s,
                 {.logits = logits, .labels = labels, .sample_losses = losses.as<double>(), .dlogits = t.Stored({2, R, C}), .scale = 0.1});
    const VocabularyPart part{.valid = C - 2, .vocabulary = C + 9};
    const TestTensor &largest = t.Sums({2 * R}), &sums = t.Sums({2, 2 * R});
    const Tensor flat{logits.tensor().data, logits.tensor().dtype, {2 * R, C}}, ids{labels.tensor().data, DType::kI32, {2 * R}};
    RowLargest(s, {.logits = flat, .part = part, .largest = largest});
    RowExpSums(s, {.logits = flat, .labels = ids, .largest = largest, .part = part, .sums = sums});
    CrossEntropyPart(s, {.logits = flat,
                         .labels = ids,
                         .largest = largest,
                         .sums = sums,
                         .part = part,
                         .dlogits = flat,
                         .sample_losses = t.Of(DType::kF64, {2}).as<double>(),
                         .samples = 2,
                         .length = R});
  });
}

TEST(Threads, Optimizer) {
  const CpuStream one, three({.threads = 3});
  const StepScalars scalars = MakeStepScalars(3, 1e-3, 0.5, 0.9, 0.95);
  constexpr std::int64_t n = 70001;
  const auto run = [&](Stream& s, Tensors& t) {
    const TestTensor& gradient = t.Of(DType::kF32, {n});
    const TestTensor v(DType::kF32, {n}, std::vector<double>(n, 0.5));
    AdamW(s, {.weight = t.Of(DType::kF32, {n}),
              .model_weight = t.Of(DType::kBF16, {n}),
              .gradient = gradient,
              .m = t.Of(DType::kF32, {n}),
              .v = v,
              .scalars = &scalars});
    SquaredNormBlocks(s, {.x = gradient, .block_sums = t.Of(DType::kF64, {NumSquaredNormBlocks(n)}).as<double>()});
    return v.values();
  };
  Tensors alone(DType::kF32), together(DType::kF32);
  EXPECT_EQ(run(*one, alone), run(*three, together));
  EXPECT_EQ(alone.values(), together.values());
}

TEST(Threads, Attention) {
  ExpectSameBits("attention", [](Stream& s, Tensors& t) {
    constexpr std::int64_t B = 2, T = 70, H = 4, G = 2, D = 20;
    const AttentionProblem p{.dtype = t.dtype(),
                             .samples = B,
                             .queries = T,
                             .keys = T,
                             .heads = H,
                             .kv_heads = G,
                             .head_dim = D,
                             .scale = 0.2,
                             .dropout = {.rate = 0.2, .random = RandomStream(1, "x", 2), .total_heads = H, .length = T}};
    const auto in = SplitQkv(ConstTensor(t.Stored({B, T, (H + 2 * G) * D})), H, G);
    const auto gradient = SplitQkv(t.Stored({B, T, (H + 2 * G) * D}).tensor(), H, G);
    const TestTensor &out = t.Stored({B, T, H * D}), &dout = t.Stored({B, T, H * D}), &log_sum_exp = t.Sums({B, H, T});
    const TestTensor scratch(DType::kU8, {std::max(AttentionForwardScratchBytes(p), AttentionBackwardScratchBytes(p))});
    AttentionForward(
        s,
        {.problem = p, .q = in.q, .k = in.k, .v = in.v, .out = AsHeads(out.tensor(), H), .log_sum_exp = log_sum_exp, .scratch = scratch});
    AttentionBackward(s, {.problem = p,
                          .q = in.q,
                          .k = in.k,
                          .v = in.v,
                          .out = AsHeads(ConstTensor(out), H),
                          .dout = AsHeads(ConstTensor(dout), H),
                          .log_sum_exp = log_sum_exp,
                          .dq = gradient.q,
                          .dk = gradient.k,
                          .dv = gradient.v,
                          .scratch = scratch});
  });
}

}  // namespace
}  // namespace lycia
