// Kernels on parts against the plain kernels' references on the whole: a row cut into parts, a vocabulary cut with padding.
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/loss/cross_entropy_ref.h"
#include "kernels/norm/layer_norm_ref.h"
#include "kernels/parts/bias.h"
#include "kernels/parts/embedding_part.h"
#include "kernels/parts/loss_part.h"
#include "kernels/parts/norm_part.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

template <typename T>
class PartsTest : public testing::Test {
 protected:
  using Values = std::vector<T>;
  static Values Random(const char* name, std::int64_t count, double scale = 1, double offset = 0) {
    const RandomStream random(5, name, 0);
    Values values;
    for (std::int64_t i = 0; i < count; ++i)
      values.push_back(static_cast<T>(offset + scale * random.Normal(static_cast<std::uint64_t>(i))));
    return values;
  }
  static Tensor Of(Values& values, const Shape& shape) {
    EXPECT_EQ(static_cast<std::int64_t>(values.size()), shape.elements());
    return {values.data(), DTypeOf<T>::value, shape};
  }
  // Columns [first, first + width) of rows of `columns`.
  static Values Columns(const Values& from, std::int64_t columns, std::int64_t first, std::int64_t width) {
    Values part;
    for (std::size_t row = 0; row < from.size(); row += static_cast<std::size_t>(columns)) {
      for (std::int64_t c = first; c < first + width; ++c) part.push_back(from[row + static_cast<std::size_t>(c)]);
    }
    return part;
  }
  static void ExpectNear(const Values& actual, const auto& expected, double tolerance, const char* what) {
    ASSERT_EQ(actual.size(), expected.size()) << what;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], tolerance * (1 + std::abs(static_cast<double>(expected[i])))) << what << " element " << i;
    }
  }
  static constexpr double kTolerance = sizeof(T) == 8 ? 1e-12 : 3e-5;
  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = device->NewStream().value();
};

using Numbers = testing::Types<double, float>;
TYPED_TEST_SUITE(PartsTest, Numbers);

// A mean of 300 with a deviation of 1: squares minus the squared mean would lose all of f32's digits but three.
TYPED_TEST(PartsTest, NormOfThreePartsIsTheNormOfTheRow) {
  using T = TypeParam;
  constexpr std::int64_t R = 5, C = 4, Q = 3;
  using Values = std::vector<T>;
  const Values in = this->Random("in", R * Q * C, 1, 300), gamma = this->Random("gamma", Q * C), beta = this->Random("beta", Q * C);
  const Values dout = this->Random("dout", R * Q * C);
  const std::vector<double> in64(in.begin(), in.end()), gamma64(gamma.begin(), gamma.end()), beta64(beta.begin(), beta.end()),
      dout64(dout.begin(), dout.end());
  std::vector<double> out64(in.size()), mean64(R), rstd64(R), din64(in.size());
  reference::LayerNormForward<double>(R, Q * C, in64.data(), gamma64.data(), beta64.data(), 1e-5, out64.data(), mean64.data(),
                                      rstd64.data());
  reference::LayerNormBackwardInput<double>(R, Q * C, dout64.data(), in64.data(), gamma64.data(), mean64.data(), rstd64.data(),
                                            din64.data());

  Values moments(Q * R * 2), sums(Q * R * 2), mean(R), rstd(R);
  std::vector<Values> in_part, gamma_part, beta_part, dout_part;
  for (std::int64_t q = 0; q < Q; ++q) {
    in_part.push_back(this->Columns(in, Q * C, q * C, C));
    dout_part.push_back(this->Columns(dout, Q * C, q * C, C));
    gamma_part.push_back(this->Columns(gamma, Q * C, q * C, C));
    beta_part.push_back(this->Columns(beta, Q * C, q * C, C));
    const Tensor own{moments.data() + q * R * 2, DTypeOf<T>::value, {R, 2}};
    RowMoments(*this->stream, {.in = this->Of(in_part.back(), {R, C}), .moments = own});
  }
  const Tensor mean_t = this->Of(mean, {R}), rstd_t = this->Of(rstd, {R});
  MergeRowMoments(*this->stream, {.moments = this->Of(moments, {Q, R, 2}), .width = C, .mean = mean_t, .rstd = rstd_t});
  this->ExpectNear(mean, mean64, this->kTolerance, "mean");
  this->ExpectNear(rstd, rstd64, this->kTolerance, "rstd");
  for (std::size_t q = 0; q < Q; ++q) {
    Values out(R * C);
    const Tensor in_t = this->Of(in_part[q], {R, C}), gamma_t = this->Of(gamma_part[q], {C});
    NormalisePart(
        *this->stream,
        {.in = in_t, .gamma = gamma_t, .beta = this->Of(beta_part[q], {C}), .mean = mean_t, .rstd = rstd_t, .out = this->Of(out, {R, C})});
    Values expected(out64.begin(), out64.end());
    this->ExpectNear(out, this->Columns(expected, Q * C, static_cast<std::int64_t>(q) * C, C), 10 * this->kTolerance, "out");
    const Tensor own{sums.data() + q * R * 2, DTypeOf<T>::value, {R, 2}};
    NormGradientSums(*this->stream,
                     {.dout = this->Of(dout_part[q], {R, C}), .in = in_t, .gamma = gamma_t, .mean = mean_t, .rstd = rstd_t, .sums = own});
  }
  for (const bool accumulate : {false, true}) {
    for (std::size_t q = 0; q < Q; ++q) {
      Values din(R * C, T(2));
      NormPartBackwardInput(*this->stream, {.dout = this->Of(dout_part[q], {R, C}),
                                            .in = this->Of(in_part[q], {R, C}),
                                            .gamma = this->Of(gamma_part[q], {C}),
                                            .mean = mean_t,
                                            .rstd = rstd_t,
                                            .sums = this->Of(sums, {Q, R, 2}),
                                            .din = this->Of(din, {R, C}),
                                            .accumulate = accumulate});
      if (accumulate) {
        for (T& value : din) value -= T(2);
      }
      Values expected(din64.begin(), din64.end());
      this->ExpectNear(din, this->Columns(expected, Q * C, static_cast<std::int64_t>(q) * C, C), 10 * this->kTolerance, "din");
    }
  }
}

// A vocabulary of 7 on 3 parts of 3: the last has two columns of padding, which hold garbage.
TYPED_TEST(PartsTest, CrossEntropyOfPaddedPartsIsThatOfTheWholeRow) {
  using T = TypeParam;
  using Values = std::vector<T>;
  constexpr std::int64_t R = 4, V = 7, W = 3, Q = 3;
  const Values logits = this->Random("logits", R * V, 30);
  std::vector<std::int32_t> labels = {6, -1, 0, 4};
  labels[2] = static_cast<std::int32_t>(std::max_element(logits.begin() + 2 * V, logits.begin() + 3 * V) - (logits.begin() + 2 * V));
  const std::vector<double> logits64(logits.begin(), logits.end());
  std::vector<double> dlogits64(logits.size()), losses64(2);
  reference::CrossEntropyForward<double>(2, 2, V, logits64.data(), labels.data(), losses64.data());
  reference::CrossEntropyBackward<double>(R, V, logits64.data(), labels.data(), 0.25, dlogits64.data());

  std::vector<double> hits_of_rows(2);
  for (std::int64_t r = 0; r < R; ++r) {
    const auto row = logits.begin() + r * V;
    const std::int32_t label = labels[static_cast<std::size_t>(r)];
    if (label >= 0 && *(row + label) == *std::max_element(row, row + V)) ++hits_of_rows[static_cast<std::size_t>(r / 2)];
  }
  EXPECT_GT(hits_of_rows[0] + hits_of_rows[1], 0) << "the test's logits have no hit to count";

  const ConstTensor labels_t(labels.data(), DType::kI32, {R});
  std::vector<Values> parts(Q), largest_of(Q), sums_of(Q);
  Values largest(R, T(-1e30)), sums(2 * R);
  const auto part = [&](std::int64_t q) { return VocabularyPart{.first = q * W, .valid = std::min(W, V - q * W), .vocabulary = V}; };
  for (std::int64_t q = 0; q < Q; ++q) {
    Values& own = parts[static_cast<std::size_t>(q)];
    for (std::int64_t r = 0; r < R; ++r) {
      for (std::int64_t c = 0; c < W; ++c) own.push_back(q * W + c < V ? logits[static_cast<std::size_t>(r * V + q * W + c)] : T(1e20));
    }
    Values& of = largest_of[static_cast<std::size_t>(q)];
    of.resize(R);
    RowLargest(*this->stream, {.logits = this->Of(own, {R, W}), .part = part(q), .largest = this->Of(of, {R})});
    for (std::size_t r = 0; r < R; ++r) largest[r] = std::max(largest[r], of[r]);
  }
  for (std::int64_t q = 0; q < Q; ++q) {
    Values of(2 * R);
    RowExpSums(*this->stream, {.logits = this->Of(parts[static_cast<std::size_t>(q)], {R, W}),
                               .labels = labels_t,
                               .largest = this->Of(largest, {R}),
                               .part = part(q),
                               .sums = this->Of(of, {2, R})});
    for (std::size_t i = 0; i < of.size(); ++i) sums[i] += of[i];
  }
  for (std::int64_t q = 0; q < Q; ++q) {
    Values& own = parts[static_cast<std::size_t>(q)];
    std::vector<double> losses(2, 99), hits(2, 99);
    CrossEntropyPart(*this->stream, {.logits = this->Of(own, {R, W}),
                                     .labels = labels_t,
                                     .largest = this->Of(largest, {R}),
                                     .sums = this->Of(sums, {2, R}),
                                     .part = part(q),
                                     .scale = 0.25,
                                     .dlogits = this->Of(own, {R, W}),
                                     .sample_losses = losses.data(),
                                     .sample_hits = hits.data(),
                                     .samples = 2,
                                     .reports = q == 1,
                                     .first_row = 0,
                                     .length = 2});
    EXPECT_EQ(hits, q == 1 ? hits_of_rows : std::vector<double>(2));
    for (std::size_t b = 0; b < 2; ++b) EXPECT_NEAR(losses[b], q == 1 ? losses64[b] : 0, 1e-5 * (1 + losses64[b]));
    for (std::int64_t r = 0; r < R; ++r) {
      for (std::int64_t c = 0; c < W; ++c) {
        const double expected = q * W + c < V ? dlogits64[static_cast<std::size_t>(r * V + q * W + c)] : 0;
        EXPECT_NEAR(own[static_cast<std::size_t>(r * W + c)], expected, this->kTolerance)
            << "part " << q << " row " << r << " column " << c;
      }
    }
  }
  const std::vector<std::int32_t> wrong = {0, 7, 0, 0};
  RowExpSums(*this->stream, {.logits = this->Of(parts[0], {R, W}),
                             .labels = {wrong.data(), DType::kI32, {R}},
                             .largest = this->Of(largest, {R}),
                             .part = part(0),
                             .sums = this->Of(sums, {2, R})});
  EXPECT_EQ(this->stream->status().message(),
            "label 7 at place 1 of the micro-batch is outside [-1, 7); tokenize the data with the model's tokenizer, or raise the model's "
            "vocabulary");
}

TYPED_TEST(PartsTest, EmbeddingPartsPositionsAndBias) {
  using T = TypeParam;
  using Values = std::vector<T>;
  Values table = {10, 11, 20, 21, 30, 31}, out(8, T(-1)), dtable(6), positions = {1, 2, 3, 4, 5, 6};  // rows 2, 3, 4 of the vocabulary
  const std::vector<std::int32_t> tokens = {4, 0, 2, 4};
  const ConstTensor tokens_t(tokens.data(), DType::kI32, {4});
  EmbeddingPart(*this->stream,
                {.tokens = tokens_t, .table = this->Of(table, {3, 2}), .first = 2, .vocabulary = 5, .out = this->Of(out, {4, 2})});
  EXPECT_EQ(out, (Values{30, 31, 0, 0, 10, 11, 30, 31}));
  EmbeddingPartBackward(*this->stream, {.tokens = tokens_t, .dout = this->Of(out, {4, 2}), .first = 2, .dtable = this->Of(dtable, {3, 2})});
  EXPECT_EQ(dtable, (Values{10, 11, 0, 0, 60, 62}));
  // Tokens 5 to 8 of sequences of three: positions 2, 0, 1, 2.
  Values rows(8);
  AddPositions(*this->stream,
               {.rows = this->Of(rows, {4, 2}), .table = this->Of(positions, {3, 2}), .position = {.first_row = 5, .length = 3}});
  EXPECT_EQ(rows, (Values{5, 6, 1, 2, 3, 4, 5, 6}));
  Values dpositions(6);
  AddPositionsBackward(
      *this->stream, {.drows = this->Of(rows, {4, 2}), .dtable = this->Of(dpositions, {3, 2}), .position = {.first_row = 5, .length = 3}});
  EXPECT_EQ(dpositions, (Values{1, 2, 3, 4, 10, 12}));
  Values bias = {100, 200};
  AddBias(*this->stream, {.rows = this->Of(rows, {4, 2}), .bias = this->Of(bias, {2})});
  EXPECT_EQ(rows, (Values{105, 206, 101, 202, 103, 204, 105, 206}));
  const std::vector<std::int32_t> wrong = {1, 5, 0, 0};
  EmbeddingPart(*this->stream, {.tokens = {wrong.data(), DType::kI32, {4}},
                                .table = this->Of(table, {3, 2}),
                                .first = 2,
                                .vocabulary = 5,
                                .out = this->Of(out, {4, 2})});
  EXPECT_EQ(this->stream->status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lycia
