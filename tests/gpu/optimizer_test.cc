// AdamW and the sums of squares against their formulas in f64, and kernels of nothing.
#include <cmath>
#include <cstring>

#include "kernels/norm/layer_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

class OptimizerTest : public KernelFixture {
 protected:
  const StepScalars* PutScalars(const StepScalars& scalars) {
    Values words(sizeof(scalars) / sizeof(double));
    std::memcpy(words.data(), &scalars, sizeof(scalars));
    return static_cast<const StepScalars*>(Put(words, DType::kF64, {static_cast<std::int64_t>(words.size())}).data);
  }
};

TEST_P(OptimizerTest, AdamW) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kLr = 0.01, kClip = 0.25;
  const StepScalars scalars{kLr, kClip, 1 - std::pow(kBeta1, 3), 1 - std::pow(kBeta2, 3)};
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::int64_t n : {1, 3, 4, 255, 1024, 1025, 4099}) {
      for (const double decay : {0.0, 0.1}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << n << " elements, decay " << decay);
        Values w = Random(n, "w", dtype), m = Random(n, "m", dtype), v = Random(n, "v", dtype);
        for (double& x : v) x = std::abs(x);
        const Values g = Random(n, "g", dtype);
        const DType half = on_cuda() && n % 2 == 1 ? DType::kF16 : DType::kBF16;
        const Tensor model = Poisoned(half, {n});
        const auto update = [&](const Tensor& weight, const Tensor& gradient, const Tensor& first, const Tensor& second, bool with_model) {
          AdamW(*stream_, {.weight = weight,
                           .model_weight = with_model ? model : Tensor{},
                           .gradient = gradient,
                           .m = first,
                           .v = second,
                           .beta1 = kBeta1,
                           .beta2 = kBeta2,
                           .eps = kEps,
                           .weight_decay = decay,
                           .scalars = PutScalars(scalars)});
        };
        const Tensor tw = Put(w, dtype, {n}), tg = Put(g, dtype, {n}), tm = Put(m, dtype, {n}), tv = Put(v, dtype, {n});
        const Tensor uw = Put(w, dtype, {n}, 1), ug = Put(g, dtype, {n}, 1), um = Put(m, dtype, {n}, 1), uv = Put(v, dtype, {n}, 1);
        update(tw, tg, tm, tv, dtype == DType::kF32);
        update(uw, ug, um, uv, false);
        for (std::size_t i = 0; i < w.size(); ++i) {
          w[i] -= kLr * decay * w[i];
          m[i] = kBeta1 * m[i] + (1 - kBeta1) * kClip * g[i];
          v[i] = kBeta2 * v[i] + (1 - kBeta2) * kClip * g[i] * kClip * g[i];
          w[i] -= kLr * (m[i] / scalars.bias_correction1) / (std::sqrt(v[i] / scalars.bias_correction2) + kEps);
        }
        const testing::Tolerance near{.of_largest = 5e-7};
        ExpectNear("weight", tw, w, near);
        ExpectNear("m", tm, m, near);
        ExpectNear("v", tv, v, near);
        if (dtype == DType::kF32) {
          EXPECT_EQ(Get(model), testing::RoundTo(half, Get(tw)));
        }
        EXPECT_EQ(Bytes(uw), Bytes(tw));  // any cut of a segment gives the same bits
        EXPECT_EQ(Bytes(um), Bytes(tm));
        EXPECT_EQ(Bytes(uv), Bytes(tv));
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

// Segments of different sizes, alignments, decays, with and without a model's weights: the same bits as one call each.
TEST_P(OptimizerTest, SegmentsTogetherAreSegmentsAlone) {
  const StepScalars* scalars = PutScalars({0.01, 0.5, 0.2, 0.1});
  std::vector<AdamWArgs> together, alone;
  for (int i = 0; i < 110; ++i) {
    const std::int64_t n = i % 9 == 4 ? 0 : 1 + (i * 397) % 2500;
    const int skip = i % 5 == 3 ? 1 : 0;
    for (std::vector<AdamWArgs>* to : {&together, &alone}) {
      AdamWArgs args{.weight = Put(Random(n, "w", DType::kF32), DType::kF32, {n}, skip),
                     .gradient = Put(Random(n, "g", DType::kF32), DType::kF32, {n}, skip),
                     .m = Put(Random(n, "m", DType::kF32), DType::kF32, {n}, skip),
                     .v = Put(Values(static_cast<std::size_t>(n), 0.5), DType::kF32, {n}, skip),
                     .beta1 = i < 60 ? 0.9 : 0.8,
                     .weight_decay = i % 2 == 0 ? 0.1 : 0.0,
                     .scalars = scalars};
      if (i % 3 == 0) args.model_weight = Poisoned(on_cuda() && i % 2 == 0 ? DType::kF16 : DType::kBF16, {n});
      to->push_back(args);
    }
  }
  AdamW(*stream_, together);
  for (const AdamWArgs& args : alone) AdamW(*stream_, args);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(Bytes(together[i].weight), Bytes(alone[i].weight));
    EXPECT_EQ(Bytes(together[i].m), Bytes(alone[i].m));
    EXPECT_EQ(Bytes(together[i].v), Bytes(alone[i].v));
    if (alone[i].model_weight.data == nullptr) continue;
    EXPECT_EQ(Bytes(together[i].model_weight), Bytes(alone[i].model_weight));
  }
}

TEST_P(OptimizerTest, SquaredNormBlocks) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::int64_t n : {1, 31, 4095, 4096, 4097, 3 * 4096 + 5}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << n << " elements");
      const Values x = Random(n, "x", dtype);
      Values expected(static_cast<std::size_t>(NumSquaredNormBlocks(n)));
      for (std::size_t i = 0; i < x.size(); ++i) expected[i / kSquaredNormBlock] += x[i] * x[i];
      const Tensor in = Put(x, dtype, {n}, 1), sums = Poisoned(DType::kF64, {static_cast<std::int64_t>(expected.size())});
      SquaredNormBlocks(*stream_, {.x = in, .block_sums = sums.as<double>()});
      EXPECT_TRUE(testing::AllNear(Get(sums), expected, {.relative = 1e-14}));
      const std::string first = Bytes(sums);
      SquaredNormBlocks(*stream_, {.x = in, .block_sums = sums.as<double>()});
      EXPECT_EQ(Bytes(sums), first);
      Release();
    }
  }
  // A gradient that is not finite shows in the sum of its block, and in that one only.
  Values x(2 * kSquaredNormBlock, 1);
  x[kSquaredNormBlock + 17] = NAN;
  const Tensor in = Put(x, DType::kF32, {2 * kSquaredNormBlock}), sums = Poisoned(DType::kF64, {2});
  SquaredNormBlocks(*stream_, {.x = in, .block_sums = sums.as<double>()});
  EXPECT_EQ(Get(sums)[0], kSquaredNormBlock);
  EXPECT_TRUE(std::isnan(Get(sums)[1]));
}

// More segments than one launch takes, of all lengths and alignments, of two types, some empty: each as if alone.
TEST_P(OptimizerTest, NormsOfManySegmentsAreThoseOfEach) {
  std::vector<SquaredNormArgs> segments;
  std::vector<Tensor> together, alone;
  for (int i = 0; i < 60; ++i) {
    const std::int64_t n = i % 17 == 3   ? 0
                           : i % 20 == 6 ? 2 * kSquaredNormBlock + 5 * i
                                         : 1 + (i * 397) % 900,
                       blocks = NumSquaredNormBlocks(n);
    const DType dtype = i < 52 ? DType::kF32 : DType::kF64;
    const Tensor x = n == 0 ? Tensor{nullptr, dtype, {0}} : Put(Random(n, "x", dtype), dtype, {n}, i % 3);
    for (std::vector<Tensor>* sums : {&together, &alone}) {
      sums->push_back(n == 0 ? Tensor{nullptr, DType::kF64, {0}} : Poisoned(DType::kF64, {blocks}));
    }
    segments.push_back({.x = x, .block_sums = together.back().as<double>()});
  }
  SquaredNormBlocks(*stream_, segments);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    SCOPED_TRACE(i);
    SquaredNormBlocks(*stream_, {.x = segments[i].x, .block_sums = alone[i].as<double>()});
    if (segments[i].x.elements() == 0) continue;
    EXPECT_EQ(Bytes(together[i]), Bytes(alone[i]));
  }
}

TEST_P(OptimizerTest, EmptyTensorsAreNothingToDo) {
  const Tensor none{nullptr, DType::kF32, {0}}, no_rows{nullptr, DType::kF32, {0, 8}};
  const Tensor eight = Put(Values(8, 2), DType::kF32, {8});
  AdamW(*stream_, {.weight = none, .gradient = none, .m = none, .v = none, .scalars = PutScalars({})});
  SquaredNormBlocks(*stream_, {.x = none, .block_sums = nullptr});
  LayerNormForward(*stream_, {.in = no_rows, .gamma = eight, .beta = eight, .out = no_rows, .mean = none, .rstd = none});
  LayerNormBackwardWeight(*stream_, {.dout = no_rows, .in = no_rows, .mean = none, .rstd = none, .dgamma = eight, .dbeta = eight});
  EXPECT_TRUE(stream_->Synchronize().ok()) << stream_->status();
  EXPECT_EQ(Get(eight), Values(8, 2));
}

LYCIA_INSTANTIATE_KERNEL_TESTS(OptimizerTest);

}  // namespace
}  // namespace lycia
