#include "kernels/elementwise/elementwise.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise_ref.h"
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

TEST(Elementwise, AddScaleFill) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t n : testing::kLengths) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << n);
        const auto x = RoundTo(dtype, RandomValues(n, "x")), y = RoundTo(dtype, RandomValues(n, "y"));
        std::vector<double> sum(x), scaled(x);
        for (std::size_t i = 0; i < x.size(); ++i)
          sum[i] += y[i], scaled[i] *= -0.375;  // a power of two times 3: exact in f32 up to rounding
        const TestTensor a(dtype, {n}, x), b(dtype, {n}, y);
        TestTensor out(dtype, {n}), in_place(dtype, {n}, x), scale(dtype, {n}, x), filled(dtype, {n});
        Add(*stream, {.a = a, .b = b, .out = out});
        AddInPlace(*stream, {.x = in_place, .y = b});
        Scale(*stream, {.values = scale, .factor = -0.375});
        Fill(*stream, {.out = filled, .value = 1.5});
        if (dtype == DType::kBF16) sum = RoundTo(DType::kF32, sum);  // that of the arithmetic
        EXPECT_EQ(out.values(), RoundTo(dtype, sum));                // then one rounding: the same bits
        EXPECT_EQ(in_place.values(), RoundTo(dtype, sum));
        EXPECT_EQ(scale.values(), RoundTo(dtype, scaled));
        EXPECT_EQ(filled.values(), std::vector<double>(x.size(), 1.5));
      }
    }
  });
}

// Among zeros: one element, runs that end before, at and behind a cache line, a NaN; and no zeros at all.
TEST(Elementwise, AddAndClearAddsWhatIsNotZero) {
  for (const int threads : {1, 3}) {
    CpuStream stream({.threads = threads});
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      for (const std::int64_t n : {std::int64_t{1}, std::int64_t{63}, std::int64_t{64}, std::int64_t{1000}, std::int64_t{70000}}) {
        for (const std::int64_t every : {1, 3, 517, 100000}) {
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << n << " every " << every << " threads " << threads);
          const auto before = RoundTo(dtype, RandomValues(n, "x"));
          auto y = RoundTo(dtype, RandomValues(n, "y"));
          for (std::int64_t i = 0; i < n; ++i) {
            if (i % every != every / 2) y[static_cast<std::size_t>(i)] = 0;
          }
          auto sum = before;
          for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += y[i];
          TestTensor x(dtype, {n}, before), other(dtype, {n}, y);
          cpu::AddAndClear(*stream, {.x = x, .y = other});
          EXPECT_EQ(x.values(), RoundTo(dtype, sum));
          EXPECT_EQ(other.values(), std::vector<double>(before.size(), 0.0));
        }
      }
      TestTensor x(dtype, {100}, std::vector<double>(100, 1)), y(dtype, {100}, std::vector<double>(100, 0));
      y.tensor().dtype == DType::kF32 ? void(y.tensor().as<float>()[70] = std::nanf("")) : void(y.tensor().as<double>()[70] = std::nan(""));
      cpu::AddAndClear(*stream, {.x = x, .y = y});
      EXPECT_TRUE(std::isnan(x.values()[70]));
      EXPECT_EQ(y.values(), std::vector<double>(100, 0.0));
    }
  }
}

TEST(Convert, RoundsOnceBetweenAnyTwoTypes) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType from : testing::kStoredDTypes) {
      for (const DType to : testing::kStoredDTypes) {
        for (const std::int64_t n : testing::kLengths) {
          SCOPED_TRACE(::testing::Message() << Name(from) << " -> " << Name(to) << " " << n);
          const auto x = RoundTo(from, RandomValues(n, "x"));
          const TestTensor in(from, {n}, x);
          TestTensor out(to, {n});
          Convert(*stream, {.in = in, .out = out});
          EXPECT_EQ(out.values(), RoundTo(to, x));
        }
      }
    }
  });
}

TEST(Elementwise, NotANumberAndInfinityPropagate) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      const TestTensor a(dtype, {3}, {nan, infinity, -infinity}), b(dtype, {3}, {1, 2, 3});
      TestTensor sum(dtype, {3}), converted(DType::kBF16, {3}), dropped(dtype, {1, 3});
      Add(*stream, {.a = a, .b = b, .out = sum});
      Convert(*stream, {.in = a, .out = converted});
      DropoutForward(*stream,
                     {.in = {a.tensor().data, dtype, {1, 3}}, .out = dropped, .mask = {.rate = 1e-10, .random = RandomStream(1, "x", 0)}});
      for (const TestTensor* t : {&sum, &converted, &dropped}) {
        EXPECT_TRUE(std::isnan(t->values()[0]));
        EXPECT_EQ(t->values()[1], infinity);
        EXPECT_EQ(t->values()[2], -infinity);
      }
    }
  });
}

TEST(FillNormal, PartsEqualTheWhole) {
  CpuStream stream;
  const RandomStream random(7, "init/wte.weight", 0);
  TestTensor whole(DType::kF32, {1000}), part(DType::kF32, {377});
  FillNormal(*stream, {.out = whole, .random = random, .std = 0.02});
  FillNormal(*stream, {.out = part, .random = random, .std = 0.02, .first_index = 123});
  for (std::size_t i = 0; i < 377; ++i) EXPECT_EQ(part.values()[i], whole.values()[i + 123]);
  for (std::size_t i = 0; i < 1000; ++i) EXPECT_EQ(whole.values()[i], static_cast<double>(static_cast<float>(0.02 * random.Normal(i))));
  double mean = 0, square = 0;
  for (double x : whole.values()) mean += x / 1000, square += x * x / 1000;
  EXPECT_NEAR(mean, 0, 4 * 0.02 / std::sqrt(1000.0));
  EXPECT_NEAR(std::sqrt(square), 0.02, 0.002);
}

TEST(Dropout, ThresholdIsTheComparisonOfTheContract) {
  const RandomStream random(1, "t", 0);
  for (const double rate : {0.0, 1e-10, 0.1, 0.25, 1.0 / 3, 0.5, 0.999}) {
    const double threshold = static_cast<double>(DropoutThreshold(rate));
    EXPECT_GE((threshold + 0.5) * 0x1p-32, rate);
    EXPECT_TRUE(threshold == 0 || (threshold - 0.5) * 0x1p-32 < rate) << rate;
  }
}

TEST(Dropout, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, C] : testing::kRowSizes) {
        for (const std::int64_t first : {0, 5}) {
          for (const std::int64_t extra : {0, 3}) {
            SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", " << C << "] first " << first << " stride + " << extra);
            const auto x = RoundTo(dtype, RandomValues(R * C, "x")), y = RoundTo(dtype, RandomValues(R * C, "y"));
            const DropoutMask mask{.rate = 0.3,
                                   .random = RandomStream(3, "dropout/embedding", 11),
                                   .first_index = first,
                                   .row_stride = extra == 0 ? 0 : C + extra};
            std::vector<double> expected(x.size()), added(x.size());
            reference::Dropout<double>(R, C, x.data(), nullptr, mask.random, mask.rate, first, C + extra, expected.data());
            reference::Dropout(R, C, x.data(), y.data(), mask.random, mask.rate, first, C + extra, added.data());
            const TestTensor in(dtype, {R, C}, x), residual(dtype, {R, C}, y);
            TestTensor out(dtype, {R, C}), sum(dtype, {R, C}), din(dtype, {R, C}, x);
            DropoutForward(*stream, {.in = in, .out = out, .mask = mask});
            DropoutForward(*stream, {.in = in, .residual = residual, .out = sum, .mask = mask});
            DropoutBackward(*stream, {.dout = din, .din = din, .mask = mask});  // linear: the same map
            const testing::Tolerance tolerance = testing::StoredTolerance(dtype, {.of_largest = 2e-7}, {.of_largest = 1e-15});
            EXPECT_TRUE(AllNear(out.values(), expected, tolerance, {R, C}));
            EXPECT_TRUE(AllNear(sum.values(), added, tolerance, {R, C}));
            EXPECT_EQ(din.values(), out.values());
          }
        }
      }
    }
  });
}

TEST(Dropout, RateZeroKeepsAll) {
  CpuStream stream;
  const TestTensor in(DType::kF32, {2, 3}, {1, 2, 3, 4, 5, 6}), residual(DType::kF32, {2, 3}, {1, 1, 1, 1, 1, 1});
  TestTensor out(DType::kF32, {2, 3}), sum(DType::kF32, {2, 3});
  DropoutForward(*stream, {.in = in, .out = out});
  DropoutForward(*stream, {.in = in, .residual = residual, .out = sum});
  EXPECT_EQ(out.values(), in.values());
  EXPECT_EQ(sum.values(), (std::vector<double>{2, 3, 4, 5, 6, 7}));
}

TEST(Dropout, KeepsTheRateAndTheMean) {
  CpuStream stream;
  constexpr std::int64_t n = 100000;
  const TestTensor in(DType::kF32, {n / 100, 100}, std::vector<double>(n, 1.0));
  for (const double rate : {0.1, 0.5}) {
    TestTensor out(DType::kF32, {n / 100, 100});
    DropoutForward(*stream, {.in = in, .out = out, .mask = {.rate = rate, .random = RandomStream(5, "dropout/h.0.mlp_out", 2)}});
    double kept = 0, sum = 0;
    for (double x : out.values()) kept += x != 0, sum += x;
    const double deviation = std::sqrt(rate * (1 - rate) / n);
    EXPECT_NEAR(kept / n, 1 - rate, 4 * deviation);
    EXPECT_NEAR(sum / n, 1, 4 * deviation / (1 - rate));
  }
}

// Two micro-batches of half the samples drop what one of all of them drops.
TEST(Dropout, DoesNotDependOnTheLayout) {
  CpuStream stream;
  constexpr std::int64_t R = 10, C = 7;
  const auto x = RandomValues(R * C, "x");
  const DropoutMask mask{.rate = 0.4, .random = RandomStream(9, "dropout/embedding", 4), .first_index = 1000};
  const TestTensor in(DType::kF64, {R, C}, x);
  TestTensor whole(DType::kF64, {R, C}), halves(DType::kF64, {R, C});
  DropoutForward(*stream, {.in = in, .out = whole, .mask = mask});
  for (const std::int64_t half : {1, 0}) {
    DropoutMask moved = mask;
    moved.first_index += half * 5 * C;
    DropoutForward(*stream, {.in = {in.as<double>() + half * 5 * C, DType::kF64, {5, C}},
                             .out = {halves.as<double>() + half * 5 * C, DType::kF64, {5, C}},
                             .mask = moved});
  }
  EXPECT_EQ(whole.values(), halves.values());
}

}  // namespace
}  // namespace lycia
