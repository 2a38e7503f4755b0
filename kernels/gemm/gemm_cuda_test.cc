// The plans that a stream keeps, and products for which cuBLASLt has no epilogue, on a cuBLASLt and a runtime without a GPU.
#include "kernels/gemm/gemm_cuda.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/testing/fake_cuda_blas.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

class GemmPlansTest : public ::testing::Test {
 protected:
  GemmPlansTest() {
    StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    LYCIA_CHECK_OK(device.status());
    device_ = *std::move(device);
    StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
    for (std::size_t i = 0; i < 64; ++i) a_[i] = static_cast<float>(i % 7) - 3, b_[i] = static_cast<float>(i % 5) - 2, bias_[i % 8] = 1;
  }
  ~GemmPlansTest() override { fake_cuda::RefuseEpilogues(false); }

  GemmArgs Args(std::int64_t m) {
    return {.a = {a_, DType::kF32, m, 8, 8},
            .b = {b_, DType::kF32, 8, 8, 8},
            .c = {c_, DType::kF32, m, 8, 8},
            .bias = ConstTensor(bias_, DType::kF32, {8}),
            .gelu = true};
  }
  std::vector<float> Run(const GemmArgs& args) {
    cuda::Gemm(*stream_, args);
    LYCIA_CHECK_OK(stream_->Synchronize());
    return {c_, c_ + 64};
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  alignas(128) float a_[64], b_[64], c_[64] = {}, bias_[8];
};

TEST_F(GemmPlansTest, AProductIsPlannedOnce) {
  EXPECT_EQ(cuda::NumGemmPlans(*stream_), 0);
  Run(Args(8));
  Run(Args(5));
  EXPECT_EQ(cuda::NumGemmPlans(*stream_), 2);
  Run(Args(8));
  Run(Args(5));
  EXPECT_EQ(cuda::NumGemmPlans(*stream_), 2);
}

// Told once that there is no epilogue, it is not asked again, and the pass gives the same numbers.
TEST_F(GemmPlansTest, APassTakesThePlaceOfAMissingEpilogue) {
  const std::vector<float> fused = Run(Args(8));
  EXPECT_EQ(cuda::NumGemmPlans(*stream_), 1);
  const int with_epilogue = fake_cuda::NumProductsWithEpilogue();
  stream_ = *device_->NewStream();
  fake_cuda::RefuseEpilogues(true);
  for (int i = 0; i < 2; ++i) {
    const std::vector<float> passed = Run(Args(8));
    for (std::size_t k = 0; k < fused.size(); ++k) EXPECT_NEAR(passed[k], fused[k], 1e-6 * (1 + std::abs(fused[k])));
    EXPECT_EQ(cuda::NumGemmPlans(*stream_), 2);
  }
  EXPECT_EQ(fake_cuda::NumProductsWithEpilogue(), with_epilogue);
}

// Sums of b in the product or, where there is no such epilogue, beside it.
TEST_F(GemmPlansTest, SumsOfBAreMadeByTheProductIfPossible) {
  GemmArgs args = Args(8);
  args.gelu = false, args.bias = {};
  args.transpose_a = true;
  alignas(128) float sums[8];
  args.b_sums = Tensor{sums, DType::kF32, {8}};
  float expected[8];
  for (const bool refuse : {false, true}) {
    stream_ = *device_->NewStream();
    fake_cuda::RefuseEpilogues(refuse);
    const int with_epilogue = fake_cuda::NumProductsWithEpilogue();
    for (int column = 0; column < 8; ++column) {
      sums[column] = expected[column] = static_cast<float>(10 * column);
      for (int row = 0; row < 8; ++row) expected[column] += 2 * b_[8 * row + column];
    }
    Run(args);
    Run(args);
    for (int column = 0; column < 8; ++column) EXPECT_EQ(sums[column], expected[column]) << "refused " << refuse << ", column " << column;
    EXPECT_EQ(fake_cuda::NumProductsWithEpilogue() - with_epilogue, refuse ? 0 : 2);
  }
}

TEST_F(GemmPlansTest, NothingToPackAndNothingPacked) {
  EXPECT_EQ(PackedMatrixBytes(DeviceKind::kCuda, DType::kBF16, 100, 200), 0);
  PackMatrix(*stream_, {.b = Args(8).b, .to = {nullptr, DType::kF32, 8, 8}});
  GemmArgs args = Args(8);
  const std::vector<float> plain = Run(args);
  args.packed_b = {c_ + 1, DType::kF32, 8, 8};  // not read
  EXPECT_EQ(Run(args), plain);
}

}  // namespace
}  // namespace lycia
