// What must not change a bit of a convolution, and what one must not do: allocate.
#include "gtest/gtest.h"
#include "kernels/conv/testing/conv_case.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

using testing::ConvCase;
using testing::ConvResult;
using testing::CpuStream;
using testing::ForEveryKernel;
using testing::TestTensor;

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

ConvShape ShapeOf(std::int64_t C, std::int64_t stride) {
  return {.N = 3,
          .C = C,
          .K = 64,
          .height = {.in = 13, .filter = 3, .stride = stride, .pad_before = 1, .pad_after = 1},
          .width = {.in = 11, .filter = 3, .stride = stride, .pad_before = 1, .pad_after = 1}};
}

// Threads, blocks, packed weights, images together or one by one.
TEST(ConvBits, SameBitsHoweverItIsCut) {
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
      const bool emulated = kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx;
      for (const std::int64_t C : {3, 64}) {
        for (const std::int64_t stride : {1, 2}) {
          if (emulated && stride != 1) continue;
          ConvCase c = {.dtype = dtype, .out_dtype = dtype, .shape = ShapeOf(C, stride), .epilogue = true};
          if (emulated && C == 64) c.shape.N = 1;
          SCOPED_TRACE(c.shape.ToString());
          const ConvResult one = testing::Run(*CpuStream(), c);
          for (const int threads : {2, 3}) EXPECT_EQ(testing::Run(*CpuStream({.threads = threads}), c), one) << threads << " threads";
          EXPECT_EQ(testing::Run(*CpuStream({.workspace_bytes = 512 << 10}), c), one) << "small blocks";
          c.packed = true;
          EXPECT_EQ(testing::Run(*CpuStream({.threads = 2}), c), one) << "packed";
        }
      }
    });
  }
}

// Channels by themselves, which no micro kernel serves.
TEST(ConvBits, SameBitsOfChannelsByThemselves) {
  for (const DType dtype : kTypes) {
    for (const std::int64_t stride : {1, 2}) {
      ConvCase c = {.dtype = dtype, .out_dtype = dtype, .shape = ShapeOf(65, stride), .epilogue = true, .accumulate = true};
      c.shape.K = c.shape.groups = 65;
      SCOPED_TRACE(c.shape.ToString());
      const ConvResult one = testing::Run(*CpuStream(), c);
      for (const int threads : {2, 3}) EXPECT_EQ(testing::Run(*CpuStream({.threads = threads}), c), one) << threads << " threads";
      c.packed = true;
      EXPECT_EQ(testing::Run(*CpuStream({.threads = 2}), c), one) << "packed";
    }
  }
}

TEST(ConvBits, AnImagesBitsDependOnThatImageAlone) {
  CpuStream stream;
  for (const DType dtype : kTypes) {
    for (const std::int64_t C : {3, 64}) {
      ConvShape shape = ShapeOf(C, 2);
      const ConvCase c = {.dtype = dtype, .out_dtype = dtype, .shape = shape};
      const ConvResult all = testing::Run(*stream, c);
      // Values are a function of their number: the first image is the same when it comes alone.
      shape.N = 1;
      const ConvResult first = testing::Run(*stream, {.dtype = dtype, .out_dtype = dtype, .shape = shape});
      for (std::size_t i = 0; i < first.out.size(); ++i) ASSERT_EQ(first.out[i], all.out[i]) << i;
      for (std::size_t i = 0; i < first.din.size(); ++i) ASSERT_EQ(first.din[i], all.din[i]) << i;
    }
  }
}

// Zero bytes beyond the streams' workspaces, whose size is declared when the stream is made.
TEST(ConvBits, AllocateNothing) {
  for (const DType dtype : kTypes) {
    for (const std::int64_t C : {3, 64}) {
      const CpuStream stream({.threads = 2});
      const ConvShape s = ShapeOf(C, 2);
      const DType sums = ArithmeticDType(dtype);
      const auto ones = [](std::int64_t n) { return std::vector<double>(static_cast<std::size_t>(n), 1.0); };
      const Shape in_shape = {s.N, s.H(), s.W(), s.C}, out_shape = {s.N, s.P(), s.Q(), s.K}, weight_shape = {s.K, s.R(), s.S(), s.C};
      const TestTensor in(dtype, in_shape, ones(in_shape.elements())), weight(dtype, weight_shape, ones(weight_shape.elements()));
      TestTensor out(dtype, out_shape), din(dtype, in_shape), dweight(sums, weight_shape, ones(weight_shape.elements()));
      TestTensor dbias(sums, {s.K}, ones(s.K));
      const TestTensor memory(DType::kU8, {PackedConvBytes(dtype, ConvUse::kForward, s)});
      const PackedConvWeight packed = {memory.tensor().data, dtype, ConvUse::kForward, s};
      std::int64_t worker[2] = {};
      const auto count = [&](int i) {
        stream->pool()->Run([&](int thread) {
          if (thread == 1) worker[i] = testing::AllocationsOfThisThread();
        });
      };
      const auto step = [&] {
        PackConvWeight(*stream, {.weight = weight, .to = packed});
        ConvForward(*stream, {.shape = s, .in = in, .packed = packed, .out = out});
        ConvForward(*stream, {.shape = s, .in = in, .weight = weight, .out = out});
        ConvBackwardInput(*stream, {.shape = s, .dout = out, .weight = weight, .din = din});
        ConvBackwardWeight(*stream, {.shape = s, .in = in, .dout = out, .dweight = dweight, .dbias = dbias});
      };
      step();
      count(0);
      const std::int64_t before = testing::AllocationsOfThisThread();
      step();
      EXPECT_EQ(testing::AllocationsOfThisThread(), before);
      count(1);
      EXPECT_EQ(worker[0], worker[1]);
    }
  }
}

}  // namespace
}  // namespace lycia
