// Kernels on parts with tensors of every type, bf16 among them, against the references of the whole, over sizes that end within vectors.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/embedding/embedding_ref.h"
#include "kernels/loss/cross_entropy_ref.h"
#include "kernels/norm/layer_norm_ref.h"
#include "kernels/norm/rms_norm_ref.h"
#include "kernels/parts/bias.h"
#include "kernels/parts/embedding_part.h"
#include "kernels/parts/loss_part.h"
#include "kernels/parts/norm_part.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;
using Values = std::vector<double>;

Values Columns(const Values& from, std::int64_t columns, std::int64_t first, std::int64_t width) {
  Values part;
  for (std::size_t row = 0; row < from.size(); row += static_cast<std::size_t>(columns)) {
    for (std::int64_t c = first; c < first + width; ++c) part.push_back(from[row + static_cast<std::size_t>(c)]);
  }
  return part;
}

class NormParts : public ::testing::TestWithParam<bool> {};  // whether of an RMS norm

TEST_P(NormParts, TwoPartsOfEveryTypeAreTheWholeRow) {
  CpuStream stream;
  const bool rms = GetParam();
  const std::int64_t numbers = rms ? 1 : 2;  // of a row
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, C] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", 2 * " << C << "]");
        const DType sums_type = ArithmeticDType(dtype);
        const Values in = RoundTo(dtype, RandomValues(R * 2 * C, "in", 2)), dout = RoundTo(dtype, RandomValues(R * 2 * C, "dout"));
        const Values gamma = RoundTo(dtype, RandomValues(2 * C, "gamma")), beta = RoundTo(dtype, RandomValues(2 * C, "beta"));
        Values out(in.size()), din(in.size()), mean(static_cast<std::size_t>(R)), rstd(mean.size());
        if (rms) {
          reference::RmsNormForward(R, 2 * C, in.data(), gamma.data(), 1e-5, out.data(), rstd.data());
          reference::RmsNormBackwardInput(R, 2 * C, dout.data(), in.data(), gamma.data(), rstd.data(), din.data());
        } else {
          reference::LayerNormForward(R, 2 * C, in.data(), gamma.data(), beta.data(), 1e-5, out.data(), mean.data(), rstd.data());
          reference::LayerNormBackwardInput(R, 2 * C, dout.data(), in.data(), gamma.data(), mean.data(), rstd.data(), din.data());
        }

        TestTensor moments(sums_type, {2, R, numbers}), sums(sums_type, {2, R, numbers}), means(sums_type, {R}), rstds(sums_type, {R});
        const Tensor mean_of_rows = rms ? Tensor() : means.tensor();
        const auto own = [&](const TestTensor& all, std::int64_t q) {
          return Tensor{static_cast<char*>(all.tensor().data) + q * R * numbers * SizeOf(sums_type), sums_type, {R, numbers}};
        };
        struct Part {
          TestTensor in, dout, gamma, beta;
        };
        std::vector<Part> parts;
        for (std::int64_t q = 0; q < 2; ++q) {
          parts.push_back(
              {TestTensor(dtype, {R, C}, Columns(in, 2 * C, q * C, C)), TestTensor(dtype, {R, C}, Columns(dout, 2 * C, q * C, C)),
               TestTensor(dtype, {C}, Columns(gamma, 2 * C, q * C, C)), TestTensor(dtype, {C}, Columns(beta, 2 * C, q * C, C))});
          RowMoments(*stream, {.in = parts.back().in, .moments = own(moments, q)});
        }
        MergeRowMoments(*stream, {.moments = moments, .width = C, .mean = mean_of_rows, .rstd = rstds});
        // Two features may lie close together: 1/rstd² then loses half the digits.
        const double unit = (sums_type == DType::kF32 ? 4e-6 : 1e-14) * (C <= 2 ? 100 : 1);
        const testing::Tolerance near{.absolute = unit, .of_largest = 2 * unit}, stored = testing::StoredTolerance(dtype, near, near);
        if (!rms) {
          EXPECT_TRUE(AllNear(means.values(), mean, near));
        }
        EXPECT_TRUE(AllNear(rstds.values(), rstd, near));
        for (std::int64_t q = 0; q < 2; ++q) {
          const Part& part = parts[static_cast<std::size_t>(q)];
          NormGradientSums(
              *stream, {.dout = part.dout, .in = part.in, .gamma = part.gamma, .mean = mean_of_rows, .rstd = rstds, .sums = own(sums, q)});
        }
        for (std::int64_t q = 0; q < 2; ++q) {
          const Part& part = parts[static_cast<std::size_t>(q)];
          TestTensor part_out(dtype, {R, C}), part_din(dtype, {R, C});
          const Tensor beta_of_part = rms ? Tensor() : part.beta.tensor();
          NormalisePart(*stream,
                        {.in = part.in, .gamma = part.gamma, .beta = beta_of_part, .mean = mean_of_rows, .rstd = rstds, .out = part_out});
          EXPECT_TRUE(AllNear(part_out.values(), Columns(out, 2 * C, q * C, C), stored, {R, C}));
          NormPartBackwardInputArgs args{
              .dout = part.dout, .in = part.in, .gamma = part.gamma, .mean = mean_of_rows, .rstd = rstds, .sums = sums, .din = part_din};
          NormPartBackwardInput(*stream, args);
          Values expected = Columns(din, 2 * C, q * C, C);
          EXPECT_TRUE(AllNear(part_din.values(), expected, stored, {R, C}));
          const Values once = part_din.values();
          args.accumulate = true;
          NormPartBackwardInput(*stream, args);
          for (std::size_t i = 0; i < once.size(); ++i) expected[i] += once[i];
          EXPECT_TRUE(AllNear(part_din.values(), expected, stored, {R, C}));
        }
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Norms, NormParts, ::testing::Bool(), [](const auto& info) { return info.param ? "Rms" : "Layer"; });

// Two parts of W columns; the second has one of padding, which holds a NaN.
TEST(LossParts, TwoPartsOfEveryTypeAreTheWholeVocabulary) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t W : {2, 16, 17, 67, 129}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " W " << W);
        const std::int64_t R = 4, V = 2 * W - 1;
        const DType sums_type = ArithmeticDType(dtype);
        const Values logits = RoundTo(dtype, RandomValues(R * V, "logits", 4));
        const std::vector<std::int32_t> labels = {0, -1, static_cast<std::int32_t>(V - 1), static_cast<std::int32_t>(W)};
        Values losses(1), dlogits(logits.size());
        reference::CrossEntropyForward(1, R, V, logits.data(), labels.data(), losses.data());
        reference::CrossEntropyBackward(R, V, logits.data(), labels.data(), 0.125, dlogits.data());

        const TestTensor tlabels(DType::kI32, {R}, Values(labels.begin(), labels.end()));
        TestTensor largest[2] = {TestTensor(sums_type, {R}), TestTensor(sums_type, {R})};
        TestTensor sums[2] = {TestTensor(sums_type, {2, R}), TestTensor(sums_type, {2, R})};
        std::vector<TestTensor> parts;
        const auto part = [&](std::int64_t q) { return VocabularyPart{.first = q * W, .valid = W - q, .vocabulary = V}; };
        Values all_largest(static_cast<std::size_t>(R), -std::numeric_limits<double>::infinity()),
            all_sums(static_cast<std::size_t>(2 * R));
        for (std::int64_t q = 0; q < 2; ++q) {
          Values own;
          for (std::int64_t r = 0; r < R; ++r) {
            for (std::int64_t c = 0; c < W; ++c) {
              own.push_back(q * W + c < V ? logits[static_cast<std::size_t>(r * V + q * W + c)] : std::numeric_limits<double>::quiet_NaN());
            }
          }
          parts.emplace_back(dtype, Shape{R, W}, own);
          RowLargest(*stream, {.logits = parts.back(), .part = part(q), .largest = largest[q]});
          for (std::size_t r = 0; r < all_largest.size(); ++r) all_largest[r] = std::max(all_largest[r], largest[q].values()[r]);
        }
        const TestTensor tlargest(sums_type, {R}, all_largest);
        for (std::int64_t q = 0; q < 2; ++q) {
          RowExpSums(
              *stream,
              {.logits = parts[static_cast<std::size_t>(q)], .labels = tlabels, .largest = tlargest, .part = part(q), .sums = sums[q]});
          for (std::size_t i = 0; i < all_sums.size(); ++i) all_sums[i] += sums[q].values()[i];
        }
        const TestTensor tsums(sums_type, {2, R}, all_sums);
        const double unit = sums_type == DType::kF32 ? 2e-6 : 1e-14;
        for (std::int64_t q = 0; q < 2; ++q) {
          const TestTensor& own = parts[static_cast<std::size_t>(q)];
          TestTensor loss(DType::kF64, {1});
          CrossEntropyPart(*stream, {.logits = own,
                                     .labels = tlabels,
                                     .largest = tlargest,
                                     .sums = tsums,
                                     .part = part(q),
                                     .scale = 0.125,
                                     .dlogits = own,
                                     .sample_losses = loss.as<double>(),
                                     .samples = 1,
                                     .length = R});
          EXPECT_TRUE(AllNear(loss.values(), losses, {.absolute = unit, .relative = unit}));
          Values expected;
          for (std::int64_t r = 0; r < R; ++r) {
            for (std::int64_t c = 0; c < W; ++c)
              expected.push_back(q * W + c < V ? dlogits[static_cast<std::size_t>(r * V + q * W + c)] : 0);
          }
          const testing::Tolerance near{.absolute = 0.125 * unit};
          EXPECT_TRUE(AllNear(own.values(), expected, testing::StoredTolerance(dtype, near, near), {R, W}));
        }
      }
    }
  });
  EXPECT_TRUE(stream->ok());
}

// The sum of two parts' rows is the embedding; gradients are f32 sums.
TEST(EmbeddingParts, RowsPositionsBiasAndGradientsOfEveryType) {
  CpuStream stream;
  const std::vector<std::int32_t> ids = {0, 6, 6, 3, 2, 6};
  const TestTensor tokens(DType::kI32, {6}, Values(ids.begin(), ids.end()));
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t C : {1, 5, 16, 33, 67}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " C " << C);
        const DType sums_type = ArithmeticDType(dtype);
        const Values table = RoundTo(dtype, RandomValues(7 * C, "table")), positions = RoundTo(dtype, RandomValues(3 * C, "positions"));
        const Values dout = RoundTo(dtype, RandomValues(6 * C, "dout")), bias = RoundTo(dtype, RandomValues(C, "bias"));
        const TestTensor tdout(dtype, {6, C}, dout), tpositions(dtype, {3, C}, positions), tbias(dtype, {C}, bias);
        const testing::Tolerance near{.of_largest = sums_type == DType::kF32 ? 1e-6 : 1e-14};
        Values dtable(table.size()), dpositions(positions.size());
        reference::EmbeddingBackward(2, 3, C, ids.data(), dout.data(), 0, dtable.data(), dpositions.data());
        for (const std::int64_t first : {0, 4}) {
          const std::int64_t rows = first == 0 ? 4 : 3;
          const auto begin = table.begin() + first * C;
          const TestTensor part(dtype, {rows, C}, Values(begin, begin + rows * C));
          TestTensor out(dtype, {6, C}), gradient(sums_type, {rows, C}, Values(static_cast<std::size_t>(rows * C)));
          EmbeddingPart(*stream, {.tokens = tokens, .table = part, .first = first, .vocabulary = 7, .out = out});
          Values expected;
          for (const std::int32_t id : ids) {
            for (std::int64_t c = 0; c < C; ++c) {
              expected.push_back(id >= first && id < first + rows ? table[static_cast<std::size_t>(id * C + c)] : 0);
            }
          }
          EXPECT_EQ(out.values(), expected);
          EmbeddingPartBackward(*stream, {.tokens = tokens, .dout = tdout, .first = first, .dtable = gradient});
          const auto from = dtable.begin() + first * C;
          EXPECT_TRUE(AllNear(gradient.values(), Values(from, from + rows * C), near));
        }
        TestTensor rows(dtype, {6, C}, dout), drows(sums_type, {3, C}, Values(positions.size()));
        AddPositionsBackward(*stream, {.drows = tdout, .dtable = drows, .position = {.first_row = 3, .length = 3}});
        EXPECT_TRUE(AllNear(drows.values(), dpositions, near));
        AddPositions(*stream, {.rows = rows, .table = tpositions, .position = {.first_row = 3, .length = 3}});
        Values expected = dout;
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += positions[i % positions.size()];
        EXPECT_TRUE(AllNear(rows.values(), expected, testing::StoredTolerance(dtype, near, near)));
        expected = rows.values();
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % bias.size()];
        AddBias(*stream, {.rows = rows, .bias = tbias});
        EXPECT_TRUE(AllNear(rows.values(), expected, testing::StoredTolerance(dtype, near, near)));
      }
    }
  });
}

}  // namespace
}  // namespace lycia
