#include "kernels/image/normalize.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

TEST(NormalizeImagesTest, EqualsTheFormulaRoundedOnce) {
  std::mt19937 random(1);
  for (const std::int64_t channels : {1, 3, 4}) {
    NormalizeImagesArgs args{.mean = {0.1, 0.5, 0.25, 0.9}, .deviation = {0.3, 1, 0.2, 0.7}};
    const Shape shape{2, 5, 7, channels};
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(shape.elements()));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    std::vector<double> expected;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const std::size_t c = i % static_cast<std::size_t>(channels);
      expected.push_back((bytes[i] / 255.0 - args.mean[c]) / args.deviation[c]);
    }
    args.in = ConstTensor(bytes.data(), DType::kU8, shape);
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
      for (const int threads : {1, 3}) {
        const testing::CpuStream stream({.threads = threads});
        const testing::TestTensor out(dtype, shape);
        args.out = out;
        NormalizeImages(*stream, args);
        ASSERT_TRUE(stream->Synchronize().ok());
        EXPECT_EQ(out.values(), testing::RoundTo(dtype, expected)) << Name(dtype) << ", " << channels << " channels";
      }
    }
  }
}

}  // namespace
}  // namespace lycia
