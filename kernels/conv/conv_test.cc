// Every micro kernel that this machine can run (AMX emulated where it is missing) and f64, against the definition in f64.
#include "kernels/conv/conv.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/conv/testing/conv_case.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::Complex;
using testing::ConvCase;
using testing::ConvCases;
using testing::ConvResult;
using testing::CpuStream;
using testing::ForEveryKernel;
using testing::RandomValues;
using testing::TestTensor;

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

bool Emulated(const cpu::MicroKernel& kernel) { return kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx; }

TEST(Conv, EqualsTheDefinitionOverTheGrid) {
  const std::vector<ConvCase> cases = ConvCases();
  CpuStream stream;
  for (std::size_t i = 0; i < cases.size() && !HasFailure(); ++i) {
    ConvCase c = cases[i];
    const ConvResult truth = testing::Truth(c);
    SCOPED_TRACE(::testing::Message() << "case " << i << ": " << c.shape.ToString());
    for (const DType dtype : kTypes) {
      ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
        if (Emulated(kernel) && i % 8 != 0) return;
        c.dtype = dtype;
        c.packed = i % 2 == 0;
        c.out_dtype = i % 3 == 0 ? DType::kF32 : dtype;
        testing::ExpectNear(c, testing::Run(*stream, c), truth);
      });
    }
    c.dtype = c.out_dtype = DType::kF64;
    testing::ExpectNear(c, testing::Run(*stream, c), truth);
  }
  EXPECT_EQ(testing::ConfiguredTiles(), 0);
}

TEST(Conv, EqualsTheDefinitionWithAnEpilogueAndAddedGradients) {
  CpuStream stream({.workspace_bytes = 512 << 10});  // the least: many blocks
  const struct { std::int64_t C, K, groups; } kChannels[] = {{3, 40, 1}, {33, 40, 1}, {64, 40, 1}, {16, 32, 2}, {65, 65, 65}};
  for (const std::int64_t stride : {1, 2}) {
    for (const auto& [C, K, groups] : kChannels) {
      ConvCase c = {.shape = {.N = 2,
                              .C = C,
                              .K = K,
                              .height = {.in = 9, .filter = 3, .stride = stride, .pad_before = 1, .pad_after = 1},
                              .width = {.in = 11, .filter = 3, .stride = stride, .pad_before = 1, .pad_after = 0},
                              .groups = groups},
                    .epilogue = true,
                    .accumulate = true};
      SCOPED_TRACE(c.shape.ToString());
      const ConvResult truth = testing::Truth(c);
      for (const DType dtype : kTypes) {
        ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
          if (Emulated(kernel) && C != 33) return;
          c.dtype = c.out_dtype = dtype;
          for (const bool packed : {false, true}) {
            c.packed = packed;
            testing::ExpectNear(c, testing::Run(*stream, c), truth);
          }
        });
      }
      c.dtype = c.out_dtype = DType::kF64;
      testing::ExpectNear(c, testing::Run(*stream, c), truth);
    }
  }
}

// Sums over more than one block of the depth (at most 384 words, of two numbers each for some kernels): of positions in a weight gradient,
// 1024 here; of 4 taps x 256 filters in an input gradient, whose sums wait beside a grid of every second pixel.
TEST(Conv, EqualsTheDefinitionOverDeepSums) {
  CpuStream stream;
  const ConvShape weight_gradient = {.N = 4,
                                     .C = 64,
                                     .K = 32,
                                     .height = {.in = 16, .filter = 3, .pad_before = 1, .pad_after = 1},
                                     .width = {.in = 16, .filter = 3, .pad_before = 1, .pad_after = 1}};
  const ConvShape input_gradient = {.N = 2,
                                    .C = 32,
                                    .K = 256,
                                    .height = {.in = 8, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1},
                                    .width = {.in = 9, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1}};
  for (const ConvCase& which :
       {ConvCase{.shape = weight_gradient}, ConvCase{.shape = input_gradient}, ConvCase{.shape = input_gradient, .accumulate = true}}) {
    ConvCase c = which;
    SCOPED_TRACE(::testing::Message() << c.shape.ToString() << (c.accumulate ? " accumulate" : ""));
    const ConvResult truth = testing::Truth(c);
    for (const DType dtype : kTypes) {
      ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
        if (Emulated(kernel) && c.shape.K == 32) return;  // too slow
        c.dtype = c.out_dtype = dtype;
        testing::ExpectNear(c, testing::Run(*stream, c), truth);
      });
    }
  }
}

// What is not a number reaches what the window says, and nothing else.
TEST(Conv, NanReachesWhatSeesItOnly) {
  CpuStream stream;
  for (const std::int64_t C : {3, 32}) {
    const ConvShape shape = {.N = 1,
                             .C = C,
                             .K = 32,
                             .height = {.in = 6, .filter = 3, .pad_before = 1, .pad_after = 1},
                             .width = {.in = 7, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1}};
    for (const DType dtype : kTypes) {
      ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
        if (Emulated(kernel)) return;  // the same packing as the others, too slow here
        ConvCase c = {.dtype = dtype, .out_dtype = dtype, .shape = shape};
        c.nan_in = (2 * 7 + 3) * C + 1;      // pixel 2, 3, channel 1
        c.nan_dout = (5 * 4 + 1) * 32 + 31;  // pixel 5, 1, filter 31
        const ConvResult r = testing::Run(*stream, c);
        for (std::size_t i = 0; i < r.out.size(); ++i) {
          const auto pixel = static_cast<std::int64_t>(i) / 32, p = pixel / 4, q = pixel % 4;
          ASSERT_EQ(std::isnan(r.out[i]), std::abs(p - 2) <= 1 && std::abs(2 * q - 3) <= 1) << i;
        }
        for (std::size_t i = 0; i < r.din.size(); ++i) {
          const auto pixel = static_cast<std::int64_t>(i) / C, h = pixel / 7, w = pixel % 7;
          ASSERT_EQ(std::isnan(r.din[i]), std::abs(h - 5) <= 1 && std::abs(w - 2) <= 1) << i;
        }
        for (std::size_t i = 0; i < r.dweight.size(); ++i) {
          const auto at = static_cast<std::int64_t>(i), k = at / (9 * C), tap = at / C % 9;
          // Column 3 is seen through taps 0 and 2 of every row; the output 5, 1 through all, a NaN times the zeros below the image among
          // them.
          ASSERT_EQ(std::isnan(r.dweight[i]), k == 31 || (at % C == 1 && tap % 3 != 1)) << i;
        }
      });
    }
  }
}

// The specification's gradients, by the complex step.
TEST(ConvReference, GradientsAreTheDerivatives) {
  const ConvShape shape = {.N = 2,
                           .C = 4,
                           .K = 6,
                           .height = {.in = 4, .filter = 2, .stride = 2, .pad_before = 1, .pad_after = 0},
                           .width = {.in = 5, .filter = 3, .pad_before = 0, .pad_after = 2, .dilation = 2},
                           .groups = 2};
  const auto in = RandomValues(2 * 4 * 5 * 4, "in"), weight = RandomValues(6 * 2 * 3 * 2, "weight");
  const auto dout = RandomValues(shape.N * shape.P() * shape.Q() * shape.K, "dout");
  const auto loss = [&](const std::vector<Complex>& x, const std::vector<Complex>& f) {
    std::vector<Complex> out(dout.size());
    reference::ConvForward(shape, x.data(), f.data(), out.data());
    return testing::Weighted(out, dout);
  };
  std::vector<double> din(in.size()), dweight(weight.size());
  reference::ConvBackwardInput(shape, dout.data(), weight.data(), din.data());
  reference::ConvBackwardWeight(shape, in.data(), dout.data(), dweight.data());
  const auto x = testing::ToComplex(in), f = testing::ToComplex(weight);
  EXPECT_TRUE(AllNear(din, testing::ComplexStepGradient(in, [&](const auto& moved) { return loss(moved, f); }), {.of_largest = 1e-13}));
  EXPECT_TRUE(
      AllNear(dweight, testing::ComplexStepGradient(weight, [&](const auto& moved) { return loss(x, moved); }), {.of_largest = 1e-13}));
}

TEST(ConvShape, ErrorsSayWhatCannotBe) {
  const ConvShape good = {.N = 1, .C = 6, .K = 4, .height = {.in = 5, .filter = 3}, .width = {.in = 5, .filter = 3}, .groups = 2};
  EXPECT_TRUE(CheckConvShape(good).ok());
  const auto message = [&](const auto& spoil) {
    ConvShape shape = good;
    spoil(shape);
    return std::string(CheckConvShape(shape).message());
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message([](ConvShape& s) { s.groups = 4; }), HasSubstr("4 groups must divide 6 channels"));
  EXPECT_THAT(message([](ConvShape& s) { s.K = 0; }), HasSubstr("0 filters"));
  EXPECT_THAT(message([](ConvShape& s) { s.width.stride = 0; }), HasSubstr("width of image 5, filter 3, stride 0"));
  EXPECT_THAT(message([](ConvShape& s) { s.height.pad_after = -1; }), HasSubstr("padding of height is 0 and -1"));
  EXPECT_THAT(message([](ConvShape& s) { s.height.dilation = 3; }), HasSubstr("reaches over 7 does not fit a height of 5"));
}

using ConvDeathTest = ::testing::Test;

TEST(ConvDeathTest, OtherTypesAreNamed) {
  CpuStream stream;
  for (const std::int64_t groups : {1, 2}) {  // 2: each channel by itself
    const ConvShape s = {.N = 1, .C = 2, .K = 2, .height = {.in = 3, .filter = 2}, .width = {.in = 3, .filter = 2}, .groups = groups};
    const TestTensor in(DType::kI32, {1, 3, 3, 2}), weight(DType::kI32, {2, 2, 2, 2 / groups}), out(DType::kI32, {1, 2, 2, 2});
    const TestTensor dweight(DType::kF32, {2, 2, 2, 2 / groups}), memory(DType::kU8, {1024});
    EXPECT_DEATH(ConvForward(*stream, {.shape = s, .in = in, .weight = weight, .out = out}), "in is i32, which is none of bf16");
    EXPECT_DEATH(ConvBackwardInput(*stream, {.shape = s, .dout = out, .weight = weight, .din = in}), "dout is i32, which is none of bf16");
    EXPECT_DEATH(ConvBackwardWeight(*stream, {.shape = s, .in = in, .dout = out, .dweight = dweight}), "in is i32, which is none of bf16");
    const PackedConvWeight to = {.data = memory.tensor().data, .dtype = DType::kI32, .use = ConvUse::kForward, .shape = s};
    EXPECT_DEATH(PackConvWeight(*stream, {.weight = weight, .to = to}), "packed weight is i32, which is none of bf16");
    const TestTensor half_in(DType::kF16, {1, 3, 3, 2}), half_weight(DType::kF16, {2, 2, 2, 2 / groups}), half_out(DType::kF16, {1, 2, 2, 2});
    EXPECT_DEATH(ConvForward(*stream, {.shape = s, .in = half_in, .weight = half_weight, .out = half_out}), "f16 are CUDA's");
  }
}

TEST(ConvDeathTest, PackedBytesOfNoShape) {
  const ConvShape good = {.N = 1, .C = 2, .K = 2, .height = {.in = 3, .filter = 2}, .width = {.in = 3, .filter = 2}};
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    ConvShape shape = good;
    shape.groups = 0;
    EXPECT_DEATH(PackedConvBytes(dtype, ConvUse::kForward, shape), "2 filters in 0 groups");
    shape = good;
    shape.height.stride = 0;
    EXPECT_DEATH(PackedConvBytes(dtype, ConvUse::kBackwardInput, shape), "height of image 3, filter 2, stride 0");
  }
}

}  // namespace
}  // namespace lycia
