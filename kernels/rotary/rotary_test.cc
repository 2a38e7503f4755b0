#include "kernels/rotary/rotary.h"

#include <cmath>
#include <complex>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/rotary/rotary_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using ::testing::HasSubstr;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

constexpr double kBase = 10000;

// By complex numbers: x[i] + j x[i + D/2] times exp(j angle).
TEST(RotaryReference, IsAMultiplicationByAUnitNumber) {
  constexpr std::int64_t D = 6;
  std::vector<double> x = RandomValues(D, "x"), expected(D);
  for (std::size_t i = 0; i < D / 2; ++i) {
    const double angle = 17 * std::pow(kBase, -static_cast<double>(i) / 3);
    const std::complex<double> turned = std::complex<double>(x[i], x[i + 3]) * std::polar(1.0, angle);
    expected[i] = turned.real(), expected[i + 3] = turned.imag();
  }
  reference::RotateHead(D, kBase, 17, false, x.data());
  EXPECT_TRUE(AllNear(x, expected, {.absolute = 1e-14}));
}

struct Size {
  std::int64_t B, T, heads, others, D;  // `others` features lie before and after the turned heads
};
constexpr Size kSizes[] = {{1, 1, 1, 0, 2}, {2, 3, 2, 5, 6}, {1, 7, 3, 1, 32}, {3, 5, 1, 0, 34}, {2, 4, 2, 8, 128}};

TEST(Rotary, EqualsTheReferenceAndTurnsBack) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [B, T, heads, others, D] : kSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " T " << T << " D " << D);
        constexpr std::int64_t kFirst = 9;
        const DType table_type = ArithmeticDType(dtype);
        const std::int64_t width = heads * D + 2 * others;
        const auto x = RoundTo(dtype, RandomValues(B * T * width, "x"));
        std::vector<double> expected = x;
        for (std::int64_t i = 0; i < B * T; ++i) {
          for (std::int64_t h = 0; h < heads; ++h) {
            reference::RotateHead(D, kBase, kFirst + i % T, false, expected.data() + i * width + others + h * D);
          }
        }
        TestTensor rows(dtype, {B, T, width}, x), cosines(table_type, {kFirst + T, D / 2}), sines(table_type, {kFirst + T, D / 2});
        RotaryTable(*stream, {.cosines = cosines, .sines = sines, .base = kBase});
        RotaryArgs args{
            .rows = rows, .cosines = cosines, .sines = sines, .heads = heads, .first_feature = others, .first_position = kFirst};
        Rotary(*stream, args);
        const testing::Tolerance f32{.absolute = 1e-6}, f64{.absolute = 1e-14};
        EXPECT_TRUE(AllNear(rows.values(), expected, testing::StoredTolerance(dtype, f32, f64), {B, T, width}));
        args.inverse = true;
        Rotary(*stream, args);
        const double back = dtype == DType::kBF16 ? 0.05 : 2e-6;  // bf16: two roundings, of values up to 4
        EXPECT_TRUE(AllNear(rows.values(), x, {.absolute = back}, {B, T, width}));

        // Positions given one by one, as for packed sequences, where they start anew: the same bits.
        std::vector<double> positions;
        for (std::int64_t i = 0; i < B * T; ++i) positions.push_back(static_cast<double>(kFirst + i % T));
        const TestTensor tpositions(DType::kI32, {B, T}, positions);
        TestTensor listed(dtype, {B, T, width}, x), counted(dtype, {B, T, width}, x);
        args.inverse = false;
        args.rows = counted;
        Rotary(*stream, args);
        args.rows = listed, args.positions = tpositions, args.first_position = 0;
        Rotary(*stream, args);
        EXPECT_EQ(listed.values(), counted.values());
      }
    }
  });
  EXPECT_TRUE(stream->ok());
}

// What it is for: the product of a query at p and a key at q depends on p - q only.
TEST(Rotary, ScoresDependOnTheDistanceOnly) {
  const auto q = RandomValues(16, "q"), k = RandomValues(16, "k");
  const auto score = [&](std::int64_t query, std::int64_t key) {
    std::vector<double> a = q, b = k;
    reference::RotateHead(16, kBase, query, false, a.data());
    reference::RotateHead(16, kBase, key, false, b.data());
    double sum = 0;
    for (std::size_t i = 0; i < 16; ++i) sum += a[i] * b[i];
    return sum;
  };
  EXPECT_NEAR(score(3, 1), score(103, 101), 1e-12);
  EXPECT_GT(std::abs(score(3, 1) - score(4, 1)), 1e-3);
}

TEST(Rotary, APositionOutsideTheTableFailsTheStream) {
  for (const double bad : {-1.0, 4.0}) {
    CpuStream stream;
    TestTensor rows(DType::kF32, {1, 2, 4}, RandomValues(8, "x")), cosines(DType::kF32, {4, 2}), sines(DType::kF32, {4, 2});
    RotaryTable(*stream, {.cosines = cosines, .sines = sines});
    const TestTensor positions(DType::kI32, {1, 2}, {3, bad});
    Rotary(*stream, {.rows = rows, .cosines = cosines, .sines = sines, .heads = 1, .positions = positions});
    EXPECT_EQ(stream->status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(stream->status().message()), HasSubstr("at place 1 of the micro-batch is outside the rotary table of 4"));
  }
}

TEST(Rotary, NotANumberStaysInItsPair) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : testing::kStoredDTypes) {
    TestTensor rows(dtype, {1, 1, 4}, {nan, 1, 2, 3}), cosines(ArithmeticDType(dtype), {1, 2}), sines(ArithmeticDType(dtype), {1, 2});
    RotaryTable(*stream, {.cosines = cosines, .sines = sines});
    Rotary(*stream, {.rows = rows, .cosines = cosines, .sines = sines, .heads = 1});
    const auto y = rows.values();
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[2]));
    EXPECT_EQ(y[1], 1);
    EXPECT_EQ(y[3], 3);
  }
}

}  // namespace
}  // namespace lycia
