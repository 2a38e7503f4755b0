#include "kernels/activation/relu.h"

#include <cmath>

#include "gtest/gtest.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

// One sum and one comparison: exact, but for the one rounding of a stored sum.
TEST(Relu, EqualsItsFormula) {
  CpuStream stream({.threads = 2});
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t n : testing::kLengths) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " n " << n);
        const auto a = RoundTo(dtype, RandomValues(n, "a")), b = RoundTo(dtype, RandomValues(n, "b"));
        const TestTensor ta(dtype, {n}, a), tb(dtype, {n}, b);
        TestTensor alone(dtype, {n}), sum(dtype, {n}), din(dtype, {n}), added(dtype, {n}, b);
        ReluForward(*stream, {.in = ta, .out = alone});
        ReluForward(*stream, {.in = ta, .residual = tb, .out = sum});
        ReluBackward(*stream, {.dout = ta, .out = sum, .din = din});
        ReluBackward(*stream, {.dout = ta, .out = sum, .din = added, .accumulate = true});
        std::vector<double> of_a(a.size()), of_sum(a.size()), d(a.size()), plus(a.size());
        for (std::size_t i = 0; i < a.size(); ++i) {
          of_a[i] = std::max(a[i], 0.0);
          of_sum[i] = std::max(a[i] + b[i], 0.0);
          d[i] = a[i] + b[i] > 0 ? a[i] : 0;
          plus[i] = b[i] + d[i];
        }
        const DType sums = ArithmeticDType(dtype);
        EXPECT_EQ(alone.values(), of_a);
        EXPECT_EQ(sum.values(), RoundTo(dtype, RoundTo(sums, of_sum)));
        EXPECT_EQ(din.values(), d);
        EXPECT_EQ(added.values(), RoundTo(dtype, RoundTo(sums, plus)));
      }
    }
  });
}

TEST(Relu, MayWriteOverWhatItReads) {
  CpuStream stream({.threads = 2});
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      constexpr std::int64_t n = 20001;
      const auto a = RandomValues(n, "a"), b = RandomValues(n, "b");
      const TestTensor ta(dtype, {n}, a), tb(dtype, {n}, b);
      TestTensor out(dtype, {n}), din(dtype, {n}), over_in(dtype, {n}, a), over_residual(dtype, {n}, b), over_dout(dtype, {n}, a);
      ReluForward(*stream, {.in = ta, .residual = tb, .out = out});
      ReluForward(*stream, {.in = over_in, .residual = tb, .out = over_in});
      ReluForward(*stream, {.in = ta, .residual = over_residual, .out = over_residual});
      ReluBackward(*stream, {.dout = ta, .out = out, .din = din});
      ReluBackward(*stream, {.dout = over_dout, .out = out, .din = over_dout});
      EXPECT_EQ(over_in.values(), out.values());
      EXPECT_EQ(over_residual.values(), out.values());
      EXPECT_EQ(over_dout.values(), din.values());
    }
  });
}

TEST(Relu, ANanStaysOne) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    const TestTensor in(DType::kF32, {3}, {std::nan(""), -1, 2}), dout(DType::kF32, {3}, {5, 5, 5});
    TestTensor out(DType::kF32, {3}), din(DType::kF32, {3});
    ReluForward(*stream, {.in = in, .out = out});
    ReluBackward(*stream, {.dout = dout, .out = out, .din = din});
    EXPECT_TRUE(std::isnan(out.values()[0]));
    EXPECT_EQ(out.values()[1], 0);
    EXPECT_EQ(din.values(), (std::vector<double>{5, 0, 5}));
  });
}

}  // namespace
}  // namespace lycia
