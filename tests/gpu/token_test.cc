// What turns tokens into rows and rows into losses: embedding and cross-entropy against their specifications in f64.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/embedding/embedding.h"
#include "kernels/embedding/embedding_ref.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/cross_entropy_ref.h"
#include "kernels/loss/label_hits.h"
#include "runtime/core/philox.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using TokenTest = KernelFixture;

// Few different tokens in many places, and one in half of them.
std::vector<std::int32_t> Tokens(std::int64_t n, std::int64_t vocabulary, std::int64_t first = 0) {
  const RandomStream random(21, "tokens", 0);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double u = random.Uniform(i);
    tokens[i] =
        static_cast<std::int32_t>(first + (u < 0.3 ? vocabulary / 2 : static_cast<std::int64_t>(u * static_cast<double>(vocabulary))));
  }
  return tokens;
}
Values Widen(const std::vector<std::int32_t>& tokens) { return Values(tokens.begin(), tokens.end()); }

struct Size {
  std::int64_t B, T, C, V;
};
constexpr Size kEmbeddings[] = {{1, 1, 1, 1}, {2, 3, 5, 7}, {3, 17, 64, 11}, {2, 40, 520, 300}, {4, 33, 6, 2}};

TEST_P(TokenTest, Embedding) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto& [B, T, C, V] : kEmbeddings) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << B << " x " << T << " x " << C << " of " << V);
      const std::int64_t first = 2, positions = first + T + 1;
      const std::vector<std::int32_t> tokens = Tokens(B * T, V);
      const Values wte = Random(V * C, "wte", dtype), wpe = Random(positions * C, "wpe", dtype), dy = Random(B * T * C, "dy", dtype);
      const Values before = Random(V * C, "dwte", wide), position_before = Random(positions * C, "dwpe", wide);
      Values y(dy.size()), dwte = before, dwpe = position_before;
      reference::EmbeddingForward<double>(B, T, C, tokens.data(), wte.data(), wpe.data(), first, y.data());
      reference::EmbeddingBackward<double>(B, T, C, tokens.data(), dy.data(), first, dwte.data(), dwpe.data());
      const Tensor ids = Put(Widen(tokens), DType::kI32, {B, T}), table = Put(wte, dtype, {V, C}), out = Poisoned(dtype, {B, T, C});
      EmbeddingForward(*stream_,
                       {.tokens = ids, .wte = table, .wpe = Put(wpe, dtype, {positions, C}), .out = out, .first_position = first});
      ExpectNear("out", out, y, {.relative = 1e-7});
      const Tensor dout = Put(dy, dtype, {B, T, C}), dtable = Put(before, wide, {V, C}),
                   dposition = Put(position_before, wide, {positions, C});
      EmbeddingBackward(*stream_, {.tokens = ids, .dout = dout, .dwte = dtable, .dwpe = dposition, .first_position = first});
      ExpectNear("dwte", dtable, dwte, {.absolute = 1e-5, .of_largest = 1e-6});
      ExpectNear("dwpe", dposition, dwpe, {.absolute = 1e-6, .of_largest = 1e-6});
      // Token by token, in order: the same bits on every device.
      if (wide == DType::kF32) {
        Values in_order = before;
        for (std::int64_t i = 0; i < B * T; ++i) {
          for (std::int64_t c = 0; c < C; ++c) {
            double& sum = in_order[static_cast<std::size_t>(tokens[static_cast<std::size_t>(i)] * C + c)];
            sum = static_cast<float>(sum) + static_cast<float>(dy[static_cast<std::size_t>(i * C + c)]);
          }
        }
        EXPECT_EQ(Get(dtable), in_order);
      }
      EmbeddingForward(*stream_, {.tokens = ids, .wte = table, .out = out});
      ExpectNear("without positions", out,
                 [&] {
                   Values rows;
                   for (const std::int32_t token : tokens) rows.insert(rows.end(), wte.begin() + token * C, wte.begin() + (token + 1) * C);
                   return rows;
                 }(),
                 {});
      Release();
      if (HasFailure()) return;
    }
  }
}

TEST_P(TokenTest, ATokenOutsideTheVocabularyIsReported) {
  const Tensor table = Put(Values(12, 1), DType::kF32, {3, 4}), rows = Poisoned(DType::kF32, {1, 2, 4});
  for (const double token : {3.0, -1.0}) {
    const Tensor ids = Put({2, token}, DType::kI32, {1, 2});
    EmbeddingForward(*stream_, {.tokens = ids, .wte = table, .out = rows});
    Status status = stream_->Synchronize();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(StrCat("token ", static_cast<int>(token), " at ")), std::string::npos) << status;
    NewStream();
    EmbeddingBackward(*stream_, {.tokens = ids, .dout = rows, .dwte = table});
    status = stream_->Synchronize();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    NewStream();
  }
}

constexpr Size kLosses[] = {{1, 1, 0, 1}, {2, 3, 0, 7}, {2, 5, 0, 64}, {3, 33, 0, 257}, {1, 4, 0, 5003}, {2, 2, 0, 4096}};

TEST_P(TokenTest, CrossEntropy) {
  for (const auto& [dtype, gradient] : {std::pair{DType::kBF16, DType::kBF16},
                                        {DType::kF32, DType::kF32},
                                        {DType::kF32, DType::kBF16},
                                        {DType::kF64, DType::kF64},
                                        {DType::kF16, DType::kF16},
                                        {DType::kF32, DType::kF16}}) {
    if (gradient == DType::kF16 && !on_cuda()) continue;
    for (const auto& [B, T, unused, V] : kLosses) {
      for (const int skip : {0, 1}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " to " << Name(gradient) << ' ' << B << " x " << T << " x " << V);
        std::vector<std::int32_t> labels = Tokens(B * T, V);
        if (labels.size() > 2) labels[2] = -1;
        Values logits = Random(B * T * V, "logits", dtype, 4);
        if (V > 64) logits[3] = -INFINITY, logits[static_cast<std::size_t>(V + 1)] = 600;
        const double scale = 1.0 / 7;
        Values losses(static_cast<std::size_t>(B)), dlogits(logits.size());
        reference::CrossEntropyForward<double>(B, T, V, logits.data(), labels.data(), losses.data());
        reference::CrossEntropyBackward<double>(B * T, V, logits.data(), labels.data(), scale, dlogits.data());
        const Tensor in = Put(logits, dtype, {B, T, V}, skip), ids = Put(Widen(labels), DType::kI32, {B, T});
        const Tensor sums = Poisoned(DType::kF64, {B}), out = Poisoned(gradient, {B, T, V}, skip);
        CrossEntropyArgs args{.logits = in, .labels = ids, .sample_losses = sums.as<double>(), .dlogits = out, .scale = scale};
        CrossEntropy(*stream_, args);
        const double tolerance = dtype == DType::kF64 ? 1e-14 : 2e-6;
        EXPECT_TRUE(testing::AllNear(Get(sums), losses, {.absolute = 40 * tolerance, .relative = tolerance}));
        ExpectNear("dlogits", out, dlogits, {.absolute = 1e-9, .of_largest = 1e-7, .relative = 4e-6});
        const std::string first = Bytes(sums);
        if (dtype == gradient) {
          args.dlogits = in;
          CrossEntropy(*stream_, args);
          EXPECT_EQ(Bytes(in), Bytes(out));
        } else {
          args.dlogits = {};
          CrossEntropy(*stream_, args);
        }
        EXPECT_EQ(Bytes(sums), first);
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(TokenTest, LabelHits) {
  for (const DType dtype : Stored()) {
    for (const auto& [B, T, unused, V] : kLosses) {
      for (const int skip : {0, 1}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << B << " x " << T << " x " << V);
        std::vector<std::int32_t> labels = Tokens(B * T, V);
        if (labels.size() > 2) labels[2] = -1;
        Values logits = Random(B * T * V, "logits", dtype, 4), expected(static_cast<std::size_t>(B), 0);
        for (std::int64_t i = 0; i < B * T; i += 2) {  // every second label is raised to the largest, which so is there twice
          const std::int32_t label = labels[static_cast<std::size_t>(i)];
          const auto row = logits.begin() + i * V;
          if (label >= 0) row[label] = *std::max_element(row, row + V);
        }
        if (V > 64) logits[5] = NAN;  // of a row that would have been hit
        for (std::int64_t i = 0; i < B * T; ++i) {
          const std::int32_t label = labels[static_cast<std::size_t>(i)];
          const auto row = logits.begin() + i * V;
          const bool hit = label >= 0 && std::all_of(row, row + V, [&](double x) { return x <= row[label]; });
          expected[static_cast<std::size_t>(i / T)] += hit ? 1 : 0;
        }
        const Tensor hits = Poisoned(DType::kF64, {B});
        LabelHits(*stream_, {.logits = Put(logits, dtype, {B, T, V}, skip),
                             .labels = Put(Widen(labels), DType::kI32, {B, T}),
                             .sample_hits = hits.as<double>()});
        EXPECT_EQ(Get(hits), expected);
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(TokenTest, ALabelOutsideTheVocabularyAndANanAreSeen) {
  const Tensor logits = Put({0, 1, 2, NAN}, DType::kF32, {1, 2, 2}), sums = Poisoned(DType::kF64, {1});
  CrossEntropy(*stream_, {.logits = logits, .labels = Put({0, 0}, DType::kI32, {1, 2}), .sample_losses = sums.as<double>()});
  EXPECT_TRUE(std::isnan(Get(sums)[0]));
  for (const double label : {2.0, -2.0}) {
    CrossEntropy(*stream_, {.logits = logits, .labels = Put({0, label}, DType::kI32, {1, 2}), .sample_losses = sums.as<double>()});
    const Status status = stream_->Synchronize();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(StrCat("label ", static_cast<int>(label), " at ")), std::string::npos) << status;
    NewStream();
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(TokenTest);

}  // namespace
}  // namespace lycia
