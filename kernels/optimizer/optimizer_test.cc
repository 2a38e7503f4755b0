#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/optimizer_ref.h"
#include "kernels/optimizer/squared_norm.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kClip = 0.7, kLr = 3e-4;

TEST(AdamW, ThreeStepsEqualTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      for (const double decay : {0.0, 0.1}) {
        for (const std::int64_t n : testing::kLengths) {
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << n << " decay " << decay);
          std::vector<double> w = RoundTo(dtype, RandomValues(n, "w")), m(w.size()), v(w.size());
          TestTensor weight(dtype, {n}, w), tm(dtype, {n}, m), tv(dtype, {n}, v);
          for (std::int64_t step = 1; step <= 3; ++step) {
            const auto g = RoundTo(dtype, RandomValues(n, StrCat("g", step), 0.01));
            const TestTensor gradient(dtype, {n}, g);
            const StepScalars scalars = MakeStepScalars(step, kLr, kClip, kBeta1, kBeta2);
            AdamW(*stream, {.weight = weight,
                            .gradient = gradient,
                            .m = tm,
                            .v = tv,
                            .beta1 = kBeta1,
                            .beta2 = kBeta2,
                            .eps = kEps,
                            .weight_decay = decay,
                            .scalars = &scalars});
            for (std::size_t i = 0; i < w.size(); ++i) {
              reference::AdamW(g[i], kLr, kClip, step, kBeta1, kBeta2, kEps, decay, w[i], m[i], v[i]);
            }
          }
          const double unit = dtype == DType::kF32 ? 6e-7 : 1e-15;
          EXPECT_TRUE(AllNear(tm.values(), m, {.of_largest = unit}));
          EXPECT_TRUE(AllNear(tv.values(), v, {.of_largest = unit}));
          EXPECT_TRUE(AllNear(weight.values(), w, {.absolute = unit * kLr * 10, .relative = unit}));
        }
      }
    }
  });
}

// The bf16 copy is the f32 weights rounded, which are the same bits as without it.
TEST(AdamW, ModelWeightsAreTheWeightsRounded) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const std::int64_t n : testing::kLengths) {
      const auto w = RoundTo(DType::kF32, RandomValues(n, "w")), zero = std::vector<double>(w.size());
      const TestTensor g(DType::kF32, {n}, RandomValues(n, "g", 0.01));
      TestTensor weight(DType::kF32, {n}, w), m(DType::kF32, {n}, zero), v(DType::kF32, {n}, zero), model(DType::kBF16, {n});
      TestTensor plain(DType::kF32, {n}, w), plain_m(DType::kF32, {n}, zero), plain_v(DType::kF32, {n}, zero);
      for (std::int64_t step = 1; step <= 2; ++step) {
        const StepScalars scalars = MakeStepScalars(step, kLr, kClip, kBeta1, kBeta2);
        AdamWArgs args{.weight = weight, .model_weight = model, .gradient = g, .m = m, .v = v, .weight_decay = 0.1, .scalars = &scalars};
        AdamW(*stream, args);
        args.weight = plain, args.model_weight = {}, args.m = plain_m, args.v = plain_v;
        AdamW(*stream, args);
      }
      EXPECT_EQ(weight.values(), plain.values());
      EXPECT_EQ(m.values(), plain_m.values());
      EXPECT_EQ(v.values(), plain_v.values());
      EXPECT_EQ(model.values(), RoundTo(DType::kBF16, weight.values()));
      EXPECT_NE(weight.values(), w);
    }
  });
}

// The first step without decay moves every weight by lr against the gradient's sign, whatever its size (eps aside): Kingma & Ba 2015,
// sec. 2.1.
TEST(AdamW, FirstStepIsTheLearningRate) {
  CpuStream stream;
  TestTensor w(DType::kF64, {3}, {1, 1, 1}), m(DType::kF64, {3}, {0, 0, 0}), v(DType::kF64, {3}, {0, 0, 0});
  const TestTensor g(DType::kF64, {3}, {1e-3, -2, 50});
  const StepScalars scalars = MakeStepScalars(1, 0.01, 1, kBeta1, kBeta2);
  AdamW(*stream, {.weight = w, .gradient = g, .m = m, .v = v, .beta1 = kBeta1, .beta2 = kBeta2, .eps = 0, .scalars = &scalars});
  EXPECT_TRUE(AllNear(w.values(), {0.99, 1.01, 0.99}, {.absolute = 1e-15}));
}

// Optimizer shards cut segments anywhere: every cut must give the same bits.
TEST(AdamW, DoesNotDependOnTheCut) {
  CpuStream stream;
  constexpr std::int64_t n = 1003;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const auto w = RandomValues(n, "w"), g = RandomValues(n, "g"), m = RandomValues(n, "m"), v2 = RandomValues(n, "v");
    std::vector<double> v = v2;
    for (double& x : v) x *= x;
    const StepScalars scalars = MakeStepScalars(5, kLr, kClip, kBeta1, kBeta2);
    const TestTensor gradient(dtype, {n}, g);
    TestTensor whole(dtype, {n}, w), whole_m(dtype, {n}, m), whole_v(dtype, {n}, v), cut(dtype, {n}, w), cut_m(dtype, {n}, m),
        cut_v(dtype, {n}, v);
    const auto update = [&](const TestTensor& weight, const TestTensor& first, const TestTensor& second, std::int64_t begin,
                            std::int64_t end) {
      const auto slice = [&](const TestTensor& t) -> Tensor {
        return {static_cast<char*>(t.tensor().data) + begin * SizeOf(dtype), dtype, {end - begin}};
      };
      AdamW(*stream, {.weight = slice(weight),
                      .gradient = slice(gradient),
                      .m = slice(first),
                      .v = slice(second),
                      .beta1 = kBeta1,
                      .beta2 = kBeta2,
                      .eps = kEps,
                      .weight_decay = 0.1,
                      .scalars = &scalars});
    };
    update(whole, whole_m, whole_v, 0, n);
    const std::int64_t cuts[] = {0, 1, 14, 333, 334, 800, n};
    for (int i = 0; i + 1 < 7; ++i) update(cut, cut_m, cut_v, cuts[i], cuts[i + 1]);
    EXPECT_EQ(whole.values(), cut.values());
    EXPECT_EQ(whole_m.values(), cut_m.values());
    EXPECT_EQ(whole_v.values(), cut_v.values());
  }
}

TEST(SquaredNorm, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      for (const std::int64_t n : testing::kLengths) {
        const auto x = RoundTo(dtype, RandomValues(n, "x"));
        const TestTensor tx(dtype, {n}, x);
        TestTensor sums(DType::kF64, {NumSquaredNormBlocks(n)});
        SquaredNormBlocks(*stream, {.x = tx, .block_sums = sums.as<double>()});
        std::vector<double> expected(static_cast<std::size_t>(NumSquaredNormBlocks(n)));
        reference::SquaredNormBlocks(n, kSquaredNormBlock, x.data(), expected.data());
        EXPECT_TRUE(AllNear(sums.values(), expected, {.relative = 1e-14})) << Name(dtype) << " " << n;
      }
    }
  });
}

TEST(SquaredNorm, BlocksDoNotSeeTheirNeighbours) {
  CpuStream stream;
  const TestTensor x(DType::kF32, {3 * 4096}, RandomValues(3 * 4096, "x"));
  TestTensor all(DType::kF64, {3}), last(DType::kF64, {1});
  SquaredNormBlocks(*stream, {.x = x, .block_sums = all.as<double>()});
  SquaredNormBlocks(*stream, {.x = {x.as<float>() + 8192, DType::kF32, {4096}}, .block_sums = last.as<double>()});
  EXPECT_EQ(all.values()[2], last.values()[0]);
}

TEST(SquaredNorm, TellsOfNumbersThatAreNotFiniteAndHoldsLargeOnes) {
  CpuStream stream;
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    std::vector<double> x(5000, 1.0);
    x[4999] = bad;
    const TestTensor tx(DType::kF32, {5000}, x);
    TestTensor sums(DType::kF64, {2});
    SquaredNormBlocks(*stream, {.x = tx, .block_sums = sums.as<double>()});
    EXPECT_EQ(sums.values()[0], 4096);
    EXPECT_FALSE(std::isfinite(sums.values()[1]));
  }
  const TestTensor large(DType::kF32, {2}, {1e30, 1e30});  // their squares overflow f32
  TestTensor sum(DType::kF64, {1});
  SquaredNormBlocks(*stream, {.x = large, .block_sums = sum.as<double>()});
  EXPECT_NEAR(sum.values()[0], 2e60, 1e54);
}

}  // namespace
}  // namespace lycia
