#include "kernels/embedding/embedding.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/embedding/embedding_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"
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

constexpr std::int64_t B = 3, T = 4, V = 5, C = 17, P = 7, kFirst = 2;
const std::vector<double> kTokens = {0, 4, 4, 1, 2, 2, 2, 2, 4, 0, 3, 1};  // repeated within and across samples

std::vector<std::int32_t> TokenIds() { return {kTokens.begin(), kTokens.end()}; }

TEST(EmbeddingReference, GradientsEqualTheComplexStep) {
  const auto ids = TokenIds();
  const auto wte = RandomValues(V * C, "wte"), wpe = RandomValues(P * C, "wpe"), dout = RandomValues(B * T * C, "dout");
  std::vector<double> dwte(wte.size()), dwpe(wpe.size());
  reference::EmbeddingBackward(B, T, C, ids.data(), dout.data(), kFirst, dwte.data(), dwpe.data());
  const auto loss = [&](const std::vector<testing::Complex>& token, const std::vector<testing::Complex>& position) {
    std::vector<testing::Complex> out(dout.size());
    reference::EmbeddingForward(B, T, C, ids.data(), token.data(), position.data(), kFirst, out.data());
    return testing::Weighted(out, dout);
  };
  const auto cte = testing::ToComplex(wte), cpe = testing::ToComplex(wpe);
  EXPECT_TRUE(AllNear(dwte, testing::ComplexStepGradient(wte, [&](const auto& x) { return loss(x, cpe); }), {.of_largest = 1e-14}));
  EXPECT_TRUE(AllNear(dwpe, testing::ComplexStepGradient(wpe, [&](const auto& x) { return loss(cte, x); }), {.of_largest = 1e-14}));
}

TEST(Embedding, EqualsTheReference) {
  CpuStream stream;
  const auto ids = TokenIds();
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t C : {1, 2, 16, 17, 31, 64, 67}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " C " << C);
        const testing::Tolerance sums =
            dtype == DType::kF64 ? testing::Tolerance{.of_largest = 1e-15} : testing::Tolerance{.of_largest = 1e-6};
        const auto wte = RoundTo(dtype, RandomValues(V * C, "wte")), wpe = RoundTo(dtype, RandomValues(P * C, "wpe"));
        const auto dout = RoundTo(dtype, RandomValues(B * T * C, "dout"));
        const TestTensor tokens(DType::kI32, {B, T}, kTokens), twte(dtype, {V, C}, wte), twpe(dtype, {P, C}, wpe),
            tdout(dtype, {B, T, C}, dout);
        TestTensor out(dtype, {B, T, C});
        EmbeddingForward(*stream, {.tokens = tokens, .wte = twte, .wpe = twpe, .out = out, .first_position = kFirst});
        std::vector<double> expected(dout.size());
        reference::EmbeddingForward(B, T, C, ids.data(), wte.data(), wpe.data(), kFirst, expected.data());
        EXPECT_TRUE(AllNear(out.values(), expected, testing::StoredTolerance(dtype, sums, sums), {B, T, C}));

        std::vector<double> dwte(wte.size(), 0.25), dwpe(wpe.size(), 0.25);
        TestTensor tdwte(ArithmeticDType(dtype), {V, C}, dwte), tdwpe(ArithmeticDType(dtype), {P, C}, dwpe);
        EmbeddingBackward(*stream, {.tokens = tokens, .dout = tdout, .dwte = tdwte, .dwpe = tdwpe, .first_position = kFirst});
        reference::EmbeddingBackward(B, T, C, ids.data(), dout.data(), kFirst, dwte.data(), dwpe.data());
        EXPECT_TRUE(AllNear(tdwte.values(), dwte, sums, {V, C}));  // sums of f32: no rounding to bf16
        EXPECT_TRUE(AllNear(tdwpe.values(), dwpe, sums, {P, C}));
        EXPECT_TRUE(stream->ok());
      }
    }
  });
}

TEST(Embedding, ATokenOutsideTheVocabularyFailsTheStream) {
  for (const double bad : {-1.0, 5.0}) {
    CpuStream stream;
    std::vector<double> ids = kTokens;
    ids[6] = bad;
    const TestTensor tokens(DType::kI32, {B, T}, ids), wte(DType::kF32, {V, C}, RandomValues(V * C, "wte"));
    TestTensor out(DType::kF32, {B, T, C});
    EmbeddingForward(*stream, {.tokens = tokens, .wte = wte, .out = out});
    EXPECT_EQ(stream->status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(stream->status().message()),
                HasSubstr("at sample 1, position 2 of the micro-batch is outside the vocabulary of 5"));
  }
}

}  // namespace
}  // namespace lycia
