#include "kernels/pool/pool.h"

#include <algorithm>
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/pool/pool_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

ConvAxis Axis(std::int64_t in, std::int64_t filter, std::int64_t stride, std::int64_t before, std::int64_t after, std::int64_t dilation) {
  return {.in = in, .filter = filter, .stride = stride, .pad_before = before, .pad_after = after, .dilation = dilation};
}

const PoolShape kShapes[] = {
    {.N = 1, .C = 1, .height = Axis(1, 1, 1, 0, 0, 1), .width = Axis(1, 1, 1, 0, 0, 1)},
    {.N = 2, .C = 3, .height = Axis(9, 3, 2, 1, 1, 1), .width = Axis(7, 3, 2, 1, 1, 1)},    // ResNet's
    {.N = 2, .C = 16, .height = Axis(6, 2, 2, 0, 0, 1), .width = Axis(8, 2, 2, 0, 0, 1)},   // VGG's
    {.N = 3, .C = 65, .height = Axis(7, 7, 1, 0, 0, 1), .width = Axis(5, 5, 1, 0, 0, 1)},   // of whole images
    {.N = 1, .C = 37, .height = Axis(5, 3, 1, 2, 1, 1), .width = Axis(11, 2, 3, 0, 1, 2)},  // sides that differ
    {.N = 1, .C = 64, .height = Axis(10, 3, 1, 2, 2, 2), .width = Axis(9, 4, 2, 3, 0, 1)},
    {.N = 2, .C = 5, .height = Axis(11, 4, 2, 3, 2, 2), .width = Axis(12, 3, 2, 1, 2, 2)},     // every window over every second pixel
    {.N = 1, .C = 33, .height = Axis(18, 16, 1, 0, 0, 1), .width = Axis(17, 16, 1, 1, 0, 1)},  // the most places
};

Shape In(const PoolShape& s) { return {s.N, s.height.in, s.width.in, s.C}; }
Shape Out(const PoolShape& s) { return {s.N, s.P(), s.Q(), s.C}; }

template <typename F>
void ForEveryCase(const F& f) {
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const PoolShape& shape : kShapes) {
        ASSERT_TRUE(CheckPoolShape(shape, true).ok());
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " in " << In(shape).ToString() << " out " << Out(shape).ToString());
        f(dtype, shape);
      }
    }
  });
}

// A mean of 256 numbers is small beside the sums on the way to it.
testing::Tolerance ToleranceOf(DType dtype) { return testing::StoredTolerance(dtype, {.of_largest = 1e-6}, {.of_largest = 4e-15}); }

// Values that repeat often, so that ties are met.
std::vector<double> Few(std::int64_t count, std::string_view name) {
  std::vector<double> values = RandomValues(count, name);
  for (double& x : values) x = std::round(x);
  return values;
}

TEST(MaxPool, EqualsTheReferenceWithTies) {
  CpuStream stream({.threads = 2});
  ForEveryCase([&](DType dtype, const PoolShape& shape) {
    const auto values = Few(In(shape).elements(), "in");
    const TestTensor in(dtype, In(shape), values);
    TestTensor out(dtype, Out(shape)), winner(DType::kU8, Out(shape));
    MaxPoolForward(*stream, {.shape = shape, .in = in, .out = out, .winner = winner});
    std::vector<double> expected(out.values().size());
    std::vector<std::int64_t> winners(expected.size());
    reference::MaxPoolForward(shape, values.data(), expected.data(), winners.data());
    EXPECT_EQ(out.values(), expected);
    // The upper half of a byte's numbers is met.
    if (shape.height.filter == 16) {
      EXPECT_GE(*std::max_element(winners.begin(), winners.end()), 128);
    }
    for (std::size_t i = 0; i < winners.size(); ++i) ASSERT_EQ(winner.as<std::uint8_t>()[i], winners[i]) << i;

    const auto dout = RoundTo(dtype, RandomValues(Out(shape).elements(), "dout"));
    for (const bool accumulate : {false, true}) {
      const auto before = RoundTo(dtype, RandomValues(In(shape).elements(), "din"));
      TestTensor din = accumulate ? TestTensor(dtype, In(shape), before) : TestTensor(dtype, In(shape));
      MaxPoolBackward(
          *stream, {.shape = shape, .dout = TestTensor(dtype, Out(shape), dout), .winner = winner, .din = din, .accumulate = accumulate});
      std::vector<double> gradient = accumulate ? before : std::vector<double>(before.size());
      reference::MaxPoolBackward(shape, dout.data(), winners.data(), gradient.data());
      EXPECT_TRUE(AllNear(din.values(), gradient, ToleranceOf(dtype), In(shape)));
    }
  });
}

TEST(MaxPool, TheFirstNanWinsAndPaddingNever) {
  CpuStream stream;
  const PoolShape shape = {.N = 1, .C = 1, .height = Axis(1, 1, 1, 0, 0, 1), .width = Axis(4, 3, 1, 1, 1, 1)};
  const double nan = std::nan(""), least = -std::numeric_limits<double>::infinity();
  testing::ForEveryIsa([&] {
    const TestTensor in(DType::kF32, In(shape), {least, -3, nan, nan});
    TestTensor out(DType::kF32, Out(shape)), winner(DType::kU8, Out(shape));
    MaxPoolForward(*stream, {.shape = shape, .in = in, .out = out, .winner = winner});
    const auto* at = winner.as<std::uint8_t>();
    EXPECT_EQ(out.values()[0], -3);
    EXPECT_EQ(at[0], 2);
    for (int i = 1; i < 4; ++i) EXPECT_TRUE(std::isnan(out.values()[static_cast<std::size_t>(i)])) << i;
    EXPECT_EQ(at[1], 2);
    EXPECT_EQ(at[2], 1);
    EXPECT_EQ(at[3], 0);
  });
}

TEST(AveragePool, EqualsTheReference) {
  CpuStream stream({.threads = 2});
  ForEveryCase([&](DType dtype, const PoolShape& shape) {
    const auto values = RoundTo(dtype, RandomValues(In(shape).elements(), "in"));
    const auto dout = RoundTo(dtype, RandomValues(Out(shape).elements(), "dout"));
    const auto before = RoundTo(dtype, RandomValues(In(shape).elements(), "din"));
    for (const bool flag : {false, true}) {
      TestTensor out(dtype, Out(shape));
      AveragePoolForward(*stream, {.shape = shape, .in = TestTensor(dtype, In(shape), values), .out = out, .count_padding = flag});
      std::vector<double> expected(out.values().size());
      reference::AveragePoolForward(shape, flag, values.data(), expected.data());
      EXPECT_TRUE(AllNear(out.values(), expected, ToleranceOf(dtype), Out(shape)));
      TestTensor din = flag ? TestTensor(dtype, In(shape), before) : TestTensor(dtype, In(shape));
      AveragePoolBackward(
          *stream, {.shape = shape, .dout = TestTensor(dtype, Out(shape), dout), .din = din, .accumulate = flag, .count_padding = flag});
      std::vector<double> gradient = flag ? before : std::vector<double>(before.size());
      reference::AveragePoolBackward(shape, flag, dout.data(), gradient.data());
      EXPECT_TRUE(AllNear(din.values(), gradient, ToleranceOf(dtype), In(shape)));
    }
  });
}

// The specification's backward is the transpose of its forward: <dout, forward(in)> = <backward(dout), in>, for maxima at fixed winners
// too.
TEST(PoolReference, BackwardIsTheTransposeOfForward) {
  for (const PoolShape& shape : kShapes) {
    const auto in = RandomValues(In(shape).elements(), "in"), dout = RandomValues(Out(shape).elements(), "dout");
    std::vector<double> out(dout.size()), din(in.size());
    std::vector<std::int64_t> winner(dout.size());
    const auto expect_equal = [&] {
      double left = 0, right = 0;
      for (std::size_t i = 0; i < out.size(); ++i) left += dout[i] * out[i];
      for (std::size_t i = 0; i < in.size(); ++i) right += din[i] * in[i];
      EXPECT_NEAR(left, right, 1e-11 * static_cast<double>(in.size()));
    };
    reference::MaxPoolForward(shape, in.data(), out.data(), winner.data());
    reference::MaxPoolBackward(shape, dout.data(), winner.data(), din.data());
    expect_equal();
    din.assign(in.size(), 0);
    reference::AveragePoolForward(shape, false, in.data(), out.data());
    reference::AveragePoolBackward(shape, false, dout.data(), din.data());
    expect_equal();
  }
}

TEST(PoolShape, ErrorsSayWhatCannotBe) {
  const auto message = [](const ConvAxis& axis, bool maximum) {
    return std::string(CheckPoolShape({.height = Axis(4, 2, 2, 0, 0, 1), .width = axis}, maximum).message());
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message(Axis(4, 2, 0, 0, 0, 1), true), HasSubstr("stride 0"));
  EXPECT_THAT(message(Axis(4, 2, 1, -1, 0, 1), true), HasSubstr("padding of width is -1"));
  EXPECT_THAT(message(Axis(4, 9, 1, 0, 0, 1), true), HasSubstr("does not fit a width of 4"));
  EXPECT_THAT(message(Axis(4, 2, 1, 2, 0, 1), true), HasSubstr("window 0 along the width lies outside"));
  EXPECT_THAT(message(Axis(400, 200, 200, 0, 0, 1), true), HasSubstr("at most 256"));
  EXPECT_TRUE(CheckPoolShape({.height = Axis(4, 2, 2, 0, 0, 1), .width = Axis(400, 200, 200, 0, 0, 1)}, false).ok());
  EXPECT_THAT(message(Axis(4000, 600, 1, 0, 0, 1), false), HasSubstr("lie over one pixel"));
  // Every second pixel is seen through all taps, the others through none.
  const ConvAxis both = Axis(65, 17, 2, 0, 0, 2);
  EXPECT_THAT(std::string(CheckPoolShape({.height = both, .width = both}, false).message()),
              HasSubstr("289 windows of 17 x 17 lie over one pixel"));
}

using PoolDeathTest = ::testing::Test;

TEST(PoolDeathTest, TheGradientOfAMaximumHasItsBoundToo) {
  CpuStream stream;
  const PoolShape shape = {.N = 1, .C = 1, .height = Axis(17, 17, 1, 0, 0, 1), .width = Axis(17, 17, 1, 0, 0, 1)};
  const TestTensor dout(DType::kF32, Out(shape)), winner(DType::kU8, Out(shape)), din(DType::kF32, In(shape));
  EXPECT_DEATH(MaxPoolBackward(*stream, {.shape = shape, .dout = dout, .winner = winner, .din = din}), "a maximum over 17 x 17 places");
}

}  // namespace
}  // namespace lycia
