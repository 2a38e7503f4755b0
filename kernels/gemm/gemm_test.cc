#include "kernels/gemm/gemm.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/blas_core.h"
#include "kernels/gemm/gemm_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

testing::Tolerance ToleranceOf(DType dtype) { return {.of_largest = dtype == DType::kF32 ? 2e-6 : 1e-14}; }

TEST(Gemm, EqualsTheReferenceInEveryVariant) {
  CpuStream stream;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const auto& [m, n, k] : testing::kGemmSizes) {
      const auto a = RoundTo(dtype, RandomValues(m * k, "a")), b = RoundTo(dtype, RandomValues(k * n, "b"));
      const auto c0 = RoundTo(dtype, RandomValues(m * n, "c")), bias = RoundTo(dtype, RandomValues(n, "bias"));
      const auto residual = RoundTo(dtype, RandomValues(m * n, "residual"));
      for (int variant = 0; variant < 16; ++variant) {
        const bool transpose_a = variant & 1, transpose_b = variant & 2, accumulate = variant & 4, epilogue = variant & 8;
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " m " << m << " n " << n << " k " << k << " variant " << variant);
        const TestTensor ta(dtype, transpose_a ? Shape{k, m} : Shape{m, k}, a), tb(dtype, transpose_b ? Shape{n, k} : Shape{k, n}, b);
        const TestTensor tbias(dtype, {n}, bias), tresidual(dtype, {m, n}, residual);
        TestTensor c = accumulate ? TestTensor(dtype, {m, n}, c0) : TestTensor(dtype, {m, n});
        Gemm(*stream, {.a = {ta.tensor().data, dtype, transpose_a ? k : m, transpose_a ? m : k, transpose_a ? m : k},
                       .transpose_a = transpose_a,
                       .b = {tb.tensor().data, dtype, transpose_b ? n : k, transpose_b ? k : n, transpose_b ? k : n},
                       .transpose_b = transpose_b,
                       .c = AsMatrix(c.tensor()),
                       .accumulate = accumulate,
                       .bias = epilogue ? ConstTensor(tbias) : ConstTensor(),
                       .residual = epilogue ? ConstMatrix(AsMatrix(tresidual.tensor())) : ConstMatrix()});
        std::vector<double> expected = c0;
        reference::Gemm(m, n, k, a.data(), transpose_a, b.data(), transpose_b, expected.data(), accumulate,
                        epilogue ? bias.data() : nullptr, epilogue ? residual.data() : nullptr);
        EXPECT_TRUE(AllNear(c.values(), expected, ToleranceOf(dtype), {m, n}));
      }
    }
  }
}

// In the least workspace, b of 64 KiB (n 128), which fits its part but for the bytes beyond a panel that packing overwrites, and one of 65
// to 128 KiB (n 200): small enough to stay near, too large for its part, so each panel is packed when it is read. Sums of bf16 stand behind
// that part.
TEST(Gemm, EqualsTheReferenceWhereBIsPackedByPanels) {
  CpuStream stream({.workspace_bytes = 512 << 10});
  constexpr std::int64_t m = 601;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::int64_t k = dtype == DType::kF32 ? 128 : 256;
    const auto a = RoundTo(dtype, RandomValues(m * k, "a"));
    const TestTensor ta(dtype, {m, k}, a);
    for (const std::int64_t n : {128, 200}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " n " << n);
      const auto b = RoundTo(dtype, RandomValues(k * n, "b"));
      const TestTensor tb(dtype, {k, n}, b);
      TestTensor c(dtype, {m, n});
      Gemm(*stream, {.a = AsMatrix(ta.tensor()), .b = AsMatrix(tb.tensor()), .c = AsMatrix(c.tensor())});
      std::vector<double> expected(static_cast<std::size_t>(m * n));
      reference::Gemm(m, n, k, a.data(), false, b.data(), false, expected.data(), false);
      EXPECT_TRUE(AllNear(c.values(), expected, testing::StoredTolerance(dtype, {.of_largest = 2e-6}, {}), {m, n}));
    }
  }
}

TEST(Gemm, LeadingDimensionsLeaveTheRestAlone) {
  CpuStream stream;
  const TestTensor a(DType::kF64, {3, 7}, RandomValues(21, "a")), b(DType::kF64, {4, 9}, RandomValues(36, "b"));
  TestTensor c(DType::kF64, {3, 6}, std::vector<double>(18, 42.0));
  // a[:, 1:5] (3 x 4) times b[:, 2:7] (4 x 5) into c[:, :5].
  Gemm(*stream, {.a = {a.as<double>() + 1, DType::kF64, 3, 4, 7},
                 .b = {b.as<double>() + 2, DType::kF64, 4, 5, 9},
                 .c = {c.as<double>(), DType::kF64, 3, 5, 6}});
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 5; ++j) {
      double sum = 0;
      for (int k = 0; k < 4; ++k) sum += a.as<double>()[i * 7 + 1 + k] * b.as<double>()[k * 9 + 2 + j];
      EXPECT_NEAR(c.as<double>()[i * 6 + j], sum, 1e-14);
    }
    EXPECT_EQ(c.as<double>()[i * 6 + 5], 42.0);
  }
}

TEST(Gemm, SameBitsTwice) {
  CpuStream stream;
  const TestTensor a(DType::kF32, {129, 200}, RandomValues(129 * 200, "a")), b(DType::kF32, {200, 70}, RandomValues(200 * 70, "b"));
  TestTensor c(DType::kF32, {129, 70}), again(DType::kF32, {129, 70});
  Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = AsMatrix(c.tensor())});
  Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = AsMatrix(again.tensor())});
  EXPECT_EQ(c.values(), again.values());
}

TEST(Gemm, DoesNothingWithoutData) {
  const std::unique_ptr<Device> device = NewShapeDevice();
  const auto stream = device->NewStream();
  ASSERT_TRUE(stream.ok());
  Gemm(**stream, {.a = {nullptr, DType::kF32, 2, 3, 3}, .b = {nullptr, DType::kF32, 3, 4, 4}, .c = {nullptr, DType::kF32, 2, 4, 4}});
  EXPECT_TRUE((*stream)->Synchronize().ok());
}

TEST(Gemm, DoesNothingOnAFailedStream) {
  CpuStream stream;
  stream->Fail(absl::AbortedError("earlier"));
  TestTensor c(DType::kF64, {1, 1}, {5});
  const TestTensor a(DType::kF64, {1, 1}, {2});
  Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(a.tensor()), .c = AsMatrix(c.tensor())});
  EXPECT_THAT(c.values(), ElementsAre(5));
}

TEST(BiasGradient, AddsColumnSums) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      for (const auto& [rows, n] : testing::kRowSizes) {
        const auto dout = RoundTo(dtype, RandomValues(rows * n, "dout")), before = RoundTo(dtype, RandomValues(n, "dbias"));
        const TestTensor tdout(dtype, {rows, n}, dout);
        TestTensor dbias(dtype, {n}, before);
        BiasGradient(*stream, {.dout = AsMatrix(tdout.tensor()), .dbias = dbias});
        std::vector<double> expected = before;
        reference::BiasGradient(rows, n, dout.data(), expected.data());
        EXPECT_TRUE(AllNear(dbias.values(), expected, ToleranceOf(dtype)));
      }
    }
  });
}

// What a product sums of b is what BiasGradient makes of it, to the bit, with rows of c or without.
TEST(Gemm, SumsOfBAreTheBiasGradient) {
  CpuStream stream;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    const DType sums = ArithmeticDType(dtype);
    const std::int64_t rows = 37, k = 5, n = 19;
    const TestTensor x(dtype, {rows, k}, RandomValues(rows * k, "x")), dy(dtype, {rows, n}, RandomValues(rows * n, "dy"));
    const auto before = RoundTo(sums, RandomValues(n, "dbias"));
    TestTensor with(sums, {n}, before), alone(sums, {n}, before), dw(sums, {k, n}), plain(sums, {k, n});
    GemmArgs args{.a = AsMatrix(x.tensor()), .transpose_a = true, .b = AsMatrix(dy.tensor()), .c = AsMatrix(plain.tensor())};
    Gemm(*stream, args);
    args.c = AsMatrix(dw.tensor()), args.b_sums = with;
    Gemm(*stream, args);
    BiasGradient(*stream, {.dout = AsMatrix(dy.tensor()), .dbias = alone});
    EXPECT_EQ(with.values(), alone.values());
    EXPECT_NE(with.values(), before);
    EXPECT_EQ(dw.values(), plain.values());
  }
}

TEST(BiasGradient, AddsBf16InF32) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const auto& [rows, n] : testing::kRowSizes) {
      const auto dout = RoundTo(DType::kBF16, RandomValues(rows * n, "dout")), before = RoundTo(DType::kF32, RandomValues(n, "dbias"));
      const TestTensor tdout(DType::kBF16, {rows, n}, dout);
      TestTensor dbias(DType::kF32, {n}, before);
      BiasGradient(*stream, {.dout = AsMatrix(tdout.tensor()), .dbias = dbias});
      std::vector<double> expected = before;
      reference::BiasGradient(rows, n, dout.data(), expected.data());
      EXPECT_TRUE(AllNear(dbias.values(), expected, ToleranceOf(DType::kF32)));
    }
  });
}

TEST(BlasCore, IsChosenFromTheFeatures) {
  EXPECT_EQ(BlasCoreFor({.avx2 = true, .fma = true, .avx512 = true}), "SkylakeX");
  EXPECT_EQ(BlasCoreFor({.avx2 = true, .fma = true}), "Haswell");
  EXPECT_EQ(BlasCoreFor({.avx2 = true}), "");
  EXPECT_EQ(BlasCoreFor({}), "");
}

TEST(BlasCore, EnvironmentIsCompletedOnceAndTheUsersValuesStay) {
  const CpuFeatures big{.avx2 = true, .fma = true, .avx512 = true};
  const auto completed = BlasEnvironment({"HOME=/x"}, big);
  EXPECT_THAT(completed, ElementsAre("HOME=/x", "OPENBLAS_CORETYPE=SkylakeX", "OPENBLAS_NUM_THREADS=1", "LYCIA_BLAS_ENVIRONMENT=1"));
  EXPECT_THAT(BlasEnvironment(completed, big), IsEmpty());
  EXPECT_THAT(BlasEnvironment({"OPENBLAS_CORETYPE=Haswell"}, big),
              ElementsAre("OPENBLAS_CORETYPE=Haswell", "OPENBLAS_NUM_THREADS=1", "LYCIA_BLAS_ENVIRONMENT=1"));
  EXPECT_THAT(BlasEnvironment({"OPENBLAS_CORETYPE=Zen", "OPENBLAS_NUM_THREADS=2"}, big), IsEmpty());
  EXPECT_THAT(BlasEnvironment({}, {}), ElementsAre("OPENBLAS_NUM_THREADS=1", "LYCIA_BLAS_ENVIRONMENT=1"));
}

TEST(BlasCore, DescribesTheLoadedLibrary) {
  const BlasDescription blas = DescribeBlas();
  EXPECT_FALSE(blas.core.empty());
  EXPECT_THAT(blas.config, ::testing::HasSubstr("OpenBLAS"));
  EXPECT_EQ(blas.advised, BlasCoreFor(ThisCpu()));
}

}  // namespace
}  // namespace lycia
