// Strips of patches, on the host: they fit, are whole tiles, and cover all patches; and what is left to the plain kernels, with the reason.
#include "kernels/reuse/mapped_conv_strips.h"

#include <string>

#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

constexpr std::int64_t kWorkspace = std::int64_t{32} << 20;

ConvShape Shape(std::int64_t N, std::int64_t size, std::int64_t filter, std::int64_t C, std::int64_t K) {
  const ConvAxis axis{.in = size, .filter = filter, .pad_before = filter / 2, .pad_after = filter / 2};
  return {.N = N, .C = C, .K = K, .height = axis, .width = axis};
}
char* At(std::uintptr_t address) { return reinterpret_cast<char*>(address); }

TEST(MappedConvStrips, AreWholeTilesThatFitTheWorkspace) {
  for (const ConvShape& s : {Shape(64, 56, 3, 64, 64), Shape(256, 7, 3, 512, 512), Shape(1, 4, 1, 64, 8), Shape(8, 112, 5, 1024, 64)}) {
    const std::int64_t strip = PatchesOfStrip(s, 2, kWorkspace), patches = s.N * s.P() * s.Q(), depth = s.R() * s.S() * s.C;
    ASSERT_GT(strip, 0) << s.ToString();
    EXPECT_LE(strip * depth * 2 + kStripHeadBytes, kWorkspace) << s.ToString();
    EXPECT_TRUE(strip == patches || strip % kMappedRows == 0) << s.ToString();
    // Another tile would not fit, or there is none.
    EXPECT_TRUE(strip == patches || (strip + kMappedRows) * depth * 2 + kStripHeadBytes > kWorkspace) << s.ToString();
  }
  EXPECT_EQ(PatchesOfStrip(Shape(64, 56, 3, 64, 64), 2, kWorkspace), 29056);  // of 200,704: seven strips
  EXPECT_EQ(PatchesOfStrip(Shape(1, 512, 1, 262144, 8), 2, kWorkspace), 0);   // 63 patches
  EXPECT_EQ(PatchesOfStrip(Shape(0, 8, 1, 64, 8), 2, kWorkspace), 0);
}

MappedConvForwardArgs Forward(const ConvShape& s, DType dtype) {
  return {.shape = s,
          .in = {At(4096), dtype, {s.N, s.H(), s.W(), s.C}},
          .weight = {At(4096), dtype, {s.K, s.R(), s.S(), s.C}},
          .c = {At(4096), dtype, s.N * s.P() * s.Q(), s.K, s.K}};
}

TEST(MappedConvStrips, RejectWhatIsNoProductOfTheTensorCores) {
  const auto reason = [](const MappedConvForwardArgs& args) {
    const char* why = RejectForwardStrips(args, At(4096), kWorkspace);
    return std::string(why == nullptr ? "" : why);
  };
  const ConvShape shape = Shape(64, 56, 3, 64, 64);
  EXPECT_EQ(reason(Forward(shape, DType::kBF16)), "");
  EXPECT_EQ(reason(Forward(shape, DType::kF16)), "operands are not bf16");
  EXPECT_EQ(reason(Forward(shape, DType::kF32)), "operands are not bf16");
  EXPECT_EQ(reason(Forward(Shape(64, 224, 7, 3, 64), DType::kBF16)), "the depth is not a multiple of 8");
  EXPECT_EQ(reason(Forward(Shape(64, 28, 3, 64, 60), DType::kBF16)), "columns are not a multiple of 8");
  EXPECT_EQ(reason(Forward(Shape(1, 512, 1, 262144, 8), DType::kBF16)), "a tile of patches does not fit the workspace");
  MappedConvForwardArgs args = Forward(shape, DType::kBF16);
  args.scale = {At(4096), DType::kF32, {64}};
  EXPECT_EQ(reason(args), "results are scaled");
  args = Forward(shape, DType::kBF16);
  args.c.dtype = DType::kF32;
  EXPECT_EQ(reason(args), "results are not of the type of the image");
  args = Forward(shape, DType::kBF16);
  args.weight.data = At(4096 + 8);
  EXPECT_EQ(reason(args), "the tensor does not begin at a multiple of 16 bytes");
}

TEST(MappedConvStrips, RejectGradientsThatAreNoProductsOfTheTensorCores) {
  const auto reason = [](const ConvShape& s, DType dtype) {
    const char* why = RejectBackwardWeightStrips({.shape = s,
                                                  .in = {At(4096), dtype, {s.N, s.H(), s.W(), s.C}},
                                                  .sums = {At(4096), dtype, s.N * s.P() * s.Q(), s.K, s.K},
                                                  .dweight = {At(4096), DType::kF32, {s.K, s.R(), s.S(), s.C}}},
                                                 At(4096), kWorkspace);
    return std::string(why == nullptr ? "" : why);
  };
  EXPECT_EQ(reason(Shape(64, 56, 3, 64, 64), DType::kBF16), "");
  EXPECT_EQ(reason(Shape(64, 56, 3, 64, 64), DType::kF32), "operands are not bf16");
  EXPECT_EQ(reason(Shape(64, 28, 3, 64, 60), DType::kBF16), "columns are not a multiple of 8");
  EXPECT_EQ(reason(Shape(64, 224, 7, 3, 64), DType::kBF16), "columns are not a multiple of 8");
}

}  // namespace
}  // namespace lycia::cuda
