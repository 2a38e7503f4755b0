// Kernels on parts of rows, of the vocabulary and of the tokens against the references of the whole.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/embedding/embedding_ref.h"
#include "kernels/loss/cross_entropy_ref.h"
#include "kernels/norm/layer_norm_ref.h"
#include "kernels/norm/rms_norm_ref.h"
#include "kernels/parts/bias.h"
#include "kernels/parts/embedding_part.h"
#include "kernels/parts/loss_part.h"
#include "kernels/parts/norm_part.h"
#include "kernels/testing/sizes.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using testing::kRowSizes;
using PartsTest = KernelFixture;

Values Columns(const Values& from, std::int64_t columns, std::int64_t first, std::int64_t width) {
  Values part;
  for (std::size_t row = 0; row < from.size(); row += static_cast<std::size_t>(columns)) {
    for (std::int64_t c = first; c < first + width; ++c) part.push_back(from[row + static_cast<std::size_t>(c)]);
  }
  return part;
}
Values Joined(const Values& a, const Values& b) {
  Values all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

TEST_P(PartsTest, TwoPartsOfARowAreTheWhole) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto [R, C] : kRowSizes) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x 2 * " << C);
      const Values x = Random(R * 2 * C, "x", dtype, 2), dy = Random(R * 2 * C, "dy", dtype), gamma = Random(2 * C, "gamma", dtype),
                   beta = Random(2 * C, "beta", dtype), before = Random(R * C, "before", dtype);
      Values y(x.size()), dx(x.size()), mean(static_cast<std::size_t>(R)), rstd(mean.size());
      reference::LayerNormForward(R, 2 * C, x.data(), gamma.data(), beta.data(), 1e-2, y.data(), mean.data(), rstd.data());
      reference::LayerNormBackwardInput(R, 2 * C, dy.data(), x.data(), gamma.data(), mean.data(), rstd.data(), dx.data());
      Tensor in[2], dout[2], weight[2], bias[2];
      Values moments, sums;
      for (const std::int64_t q : {0, 1}) {
        in[q] = Put(Columns(x, 2 * C, q * C, C), dtype, {R, C});
        dout[q] = Put(Columns(dy, 2 * C, q * C, C), dtype, {R, C});
        weight[q] = Put(Columns(gamma, 2 * C, q * C, C), dtype, {C});
        bias[q] = Put(Columns(beta, 2 * C, q * C, C), dtype, {C});
        const Tensor own = Poisoned(wide, {R, 2});
        RowMoments(*stream_, {.in = in[q], .moments = own});
        moments = Joined(moments, Get(own));
      }
      const Tensor means = Poisoned(wide, {R}), rstds = Poisoned(wide, {R});
      MergeRowMoments(*stream_, {.moments = Put(moments, wide, {2, R, 2}), .width = C, .mean = means, .rstd = rstds, .eps = 1e-2});
      const testing::Tolerance near{.absolute = 4e-6, .of_largest = 8e-6};
      ExpectNear("mean", means, mean, near);
      ExpectNear("rstd", rstds, rstd, near);
      for (const std::int64_t q : {0, 1}) {
        const Tensor own = Poisoned(wide, {R, 2});
        NormGradientSums(*stream_, {.dout = dout[q], .in = in[q], .gamma = weight[q], .mean = means, .rstd = rstds, .sums = own});
        sums = Joined(sums, Get(own));
      }
      for (const std::int64_t q : {0, 1}) {
        const Tensor out = Poisoned(dtype, {R, C}), din = Put(before, dtype, {R, C});
        NormalisePart(*stream_, {.in = in[q], .gamma = weight[q], .beta = bias[q], .mean = means, .rstd = rstds, .out = out});
        ExpectNear("out", out, Columns(y, 2 * C, q * C, C), near);
        NormPartBackwardInputArgs args{.dout = dout[q],
                                       .in = in[q],
                                       .gamma = weight[q],
                                       .mean = means,
                                       .rstd = rstds,
                                       .sums = Put(sums, wide, {2, R, 2}),
                                       .din = din,
                                       .accumulate = true};
        NormPartBackwardInput(*stream_, args);
        Values expected = Columns(dx, 2 * C, q * C, C);
        const testing::Tolerance gradient{.absolute = 1e-4, .of_largest = 1e-5};
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
        ExpectNear("din +=", din, expected, gradient);
        args.accumulate = false;
        NormPartBackwardInput(*stream_, args);
        ExpectNear("din =", din, Columns(dx, 2 * C, q * C, C), gradient);
      }
      Release();
      if (HasFailure()) return;
    }
  }
}

// RMS norm: one number a row, no mean, no beta.
TEST_P(PartsTest, TwoPartsOfARowAreTheWholeOfAnRmsNorm) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto [R, C] : kRowSizes) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x 2 * " << C);
      const Values x = Random(R * 2 * C, "x", dtype, 2), dy = Random(R * 2 * C, "dy", dtype), gamma = Random(2 * C, "gamma", dtype),
                   before = Random(R * C, "before", dtype);
      Values y(x.size()), dx(x.size()), rstd(static_cast<std::size_t>(R)), moments, sums;
      reference::RmsNormForward(R, 2 * C, x.data(), gamma.data(), 1e-2, y.data(), rstd.data());
      reference::RmsNormBackwardInput(R, 2 * C, dy.data(), x.data(), gamma.data(), rstd.data(), dx.data());
      Tensor in[2], dout[2], weight[2];
      for (const std::int64_t q : {0, 1}) {
        in[q] = Put(Columns(x, 2 * C, q * C, C), dtype, {R, C});
        dout[q] = Put(Columns(dy, 2 * C, q * C, C), dtype, {R, C});
        weight[q] = Put(Columns(gamma, 2 * C, q * C, C), dtype, {C});
        const Tensor own = Poisoned(wide, {R, 1});
        RowMoments(*stream_, {.in = in[q], .moments = own});
        moments = Joined(moments, Get(own));
      }
      const Tensor rstds = Poisoned(wide, {R});
      MergeRowMoments(*stream_, {.moments = Put(moments, wide, {2, R, 1}), .width = C, .rstd = rstds, .eps = 1e-2});
      const testing::Tolerance near{.absolute = 4e-6, .of_largest = 8e-6}, gradient{.absolute = 1e-4, .of_largest = 1e-5};
      ExpectNear("rstd", rstds, rstd, near);
      for (const std::int64_t q : {0, 1}) {
        const Tensor own = Poisoned(wide, {R, 1});
        NormGradientSums(*stream_, {.dout = dout[q], .in = in[q], .gamma = weight[q], .rstd = rstds, .sums = own});
        sums = Joined(sums, Get(own));
      }
      for (const std::int64_t q : {0, 1}) {
        const Tensor out = Poisoned(dtype, {R, C}), din = Put(before, dtype, {R, C});
        NormalisePart(*stream_, {.in = in[q], .gamma = weight[q], .rstd = rstds, .out = out});
        ExpectNear("out", out, Columns(y, 2 * C, q * C, C), near);
        NormPartBackwardInput(*stream_, {.dout = dout[q],
                                         .in = in[q],
                                         .gamma = weight[q],
                                         .rstd = rstds,
                                         .sums = Put(sums, wide, {2, R, 1}),
                                         .din = din,
                                         .accumulate = true});
        Values expected = Columns(dx, 2 * C, q * C, C);
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
        ExpectNear("din +=", din, expected, gradient);
      }
      Release();
      if (HasFailure()) return;
    }
  }
}

// The second part ends with one column of padding, which holds a NaN; the rows are the last of one sample and the first of the next.
TEST_P(PartsTest, TwoPartsOfTheVocabularyAreTheWhole) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const std::int64_t W : {2, 16, 17, 67, 1032}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " 2 * " << W);
      const std::int64_t R = 5, V = 2 * W - 1;
      const Values logits = Random(R * V, "logits", dtype, 4);
      const std::vector<std::int32_t> labels = {0, -1, static_cast<std::int32_t>(V - 1), static_cast<std::int32_t>(W), 1};
      Values losses(static_cast<std::size_t>(R)), dlogits(logits.size());
      reference::CrossEntropyForward(R, 1, V, logits.data(), labels.data(), losses.data());
      reference::CrossEntropyBackward(R, V, logits.data(), labels.data(), 0.125, dlogits.data());
      const Tensor ids = Put(Values(labels.begin(), labels.end()), DType::kI32, {R});
      const auto part = [&](std::int64_t q) { return VocabularyPart{.first = q * W, .valid = W - q, .vocabulary = V}; };
      Tensor own[2];
      Values largest(static_cast<std::size_t>(R), -INFINITY), sums(static_cast<std::size_t>(2 * R));
      for (const std::int64_t q : {0, 1}) {
        Values columns;
        for (std::int64_t r = 0; r < R; ++r) {
          for (std::int64_t c = q * W; c < q * W + W; ++c) columns.push_back(c < V ? logits[static_cast<std::size_t>(r * V + c)] : NAN);
        }
        own[q] = Put(columns, dtype, {R, W});
        const Tensor to = Poisoned(wide, {R});
        RowLargest(*stream_, {.logits = own[q], .part = part(q), .largest = to});
        const Values found = Get(to);
        for (std::size_t r = 0; r < largest.size(); ++r) largest[r] = std::max(largest[r], found[r]);
      }
      for (std::int64_t r = 0; r < R; ++r)
        EXPECT_EQ(largest[static_cast<std::size_t>(r)],
                  *std::max_element(&logits[static_cast<std::size_t>(r * V)], &logits[static_cast<std::size_t>(r * V)] + V));
      const Tensor all_largest = Put(largest, wide, {R});
      for (const std::int64_t q : {0, 1}) {
        const Tensor to = Poisoned(wide, {2, R});
        RowExpSums(*stream_, {.logits = own[q], .labels = ids, .largest = all_largest, .part = part(q), .sums = to});
        const Values found = Get(to);
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += found[i];
      }
      const Tensor all_sums = Put(sums, wide, {2, R});
      for (const std::int64_t q : {0, 1}) {
        const Tensor loss = Poisoned(DType::kF64, {3}), hit = Poisoned(DType::kF64, {3});
        CrossEntropyPart(*stream_, {.logits = own[q],
                                    .labels = ids,
                                    .largest = all_largest,
                                    .sums = all_sums,
                                    .part = part(q),
                                    .scale = 0.125,
                                    .dlogits = own[q],
                                    .sample_losses = loss.as<double>(),
                                    .sample_hits = hit.as<double>(),
                                    .samples = 3,
                                    .reports = q == 0,
                                    .first_row = 2,
                                    .length = 3});
        // Rows 2 to 6: one of sample 0, three of sample 1, one of sample 2.
        const Values expected_losses = q == 0 ? Values{losses[0], losses[1] + losses[2] + losses[3], losses[4]} : Values{0, 0, 0};
        EXPECT_TRUE(testing::AllNear(Get(loss), expected_losses, {.absolute = wide == DType::kF32 ? 2e-5 : 1e-13}));
        Values expected_hits(3);
        for (std::int64_t r = 0; q == 0 && r < R; ++r) {
          const std::int32_t label = labels[static_cast<std::size_t>(r)];
          const double* row = &logits[static_cast<std::size_t>(r * V)];
          if (label >= 0 && row[label] >= *std::max_element(row, row + V)) ++expected_hits[static_cast<std::size_t>((2 + r) / 3)];
        }
        EXPECT_EQ(Get(hit), expected_hits);
        Values expected;
        for (std::int64_t r = 0; r < R; ++r) {
          for (std::int64_t c = q * W; c < q * W + W; ++c) expected.push_back(c < V ? dlogits[static_cast<std::size_t>(r * V + c)] : 0);
        }
        ExpectNear("dlogits", own[q], expected, {.absolute = 1e-8, .of_largest = 1e-6, .relative = 4e-6});
      }
      Release();
      if (HasFailure()) return;
    }
  }
}

TEST_P(PartsTest, EmbeddingPositionsAndBias) {
  struct Size {
    std::int64_t n, C, first, rows, vocabulary;
  };
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto& [n, C, first, rows, V] : {Size{1, 1, 0, 1, 1}, {7, 5, 3, 4, 9}, {40, 64, 10, 20, 31}, {33, 520, 0, 5, 12}}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << n << " x " << C << ", rows " << first << " to " << first + rows << " of "
                                        << V);
      Values tokens(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < n; ++i) tokens[static_cast<std::size_t>(i)] = static_cast<double>((i * i + 3 * i) % V);
      const Values table = Random(rows * C, "table", dtype), dy = Random(n * C, "dy", dtype), before = Random(rows * C, "dtable", wide);
      Values out(dy.size()), dtable = before;
      const auto at = [C = C](std::int64_t r, std::int64_t c) { return static_cast<std::size_t>(r * C + c); };
      for (std::int64_t i = 0; i < n; ++i) {
        const auto row = static_cast<std::int64_t>(tokens[static_cast<std::size_t>(i)]) - first;
        if (row < 0 || row >= rows) continue;
        for (std::int64_t c = 0; c < C; ++c) out[at(i, c)] = table[at(row, c)], dtable[at(row, c)] += dy[at(i, c)];
      }
      const Tensor ids = Put(tokens, DType::kI32, {n}), to = Poisoned(dtype, {n, C}), gradient = Put(before, wide, {rows, C});
      EmbeddingPart(*stream_, {.tokens = ids, .table = Put(table, dtype, {rows, C}), .first = first, .vocabulary = V, .out = to});
      EXPECT_EQ(Get(to), out);
      const Tensor dout = Put(dy, dtype, {n, C});
      EmbeddingPartBackward(*stream_, {.tokens = ids, .dout = dout, .first = first, .dtable = gradient});
      ExpectNear("dtable", gradient, dtable, {.absolute = 1e-5, .of_largest = 1e-6});

      const PositionRows position{.first_row = 4, .length = 6};
      const Values positions = Random(6 * C, "positions", dtype), dbefore = Random(6 * C, "dpositions", wide),
                   bias = Random(C, "bias", dtype);
      Values moved = dy, dpositions = dbefore;
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t c = 0; c < C; ++c) {
          moved[at(i, c)] += positions[at((4 + i) % 6, c)];
          dpositions[at((4 + i) % 6, c)] += dy[at(i, c)];
        }
      }
      const Tensor dplaces = Put(dbefore, wide, {6, C});
      AddPositionsBackward(*stream_, {.drows = dout, .dtable = dplaces, .position = position});
      ExpectNear("dpositions", dplaces, dpositions, {.absolute = 1e-5, .of_largest = 1e-6});
      AddPositions(*stream_, {.rows = dout, .table = Put(positions, dtype, {6, C}), .position = position});
      ExpectNear("positions", dout, moved, {.of_largest = 1e-7, .relative = 1e-7});
      Values with = Get(dout);
      for (std::size_t i = 0; i < with.size(); ++i) with[i] += bias[i % static_cast<std::size_t>(C)];
      AddBias(*stream_, {.rows = dout, .bias = Put(bias, dtype, {C})});
      ExpectNear("bias", dout, with, {.of_largest = 1e-7, .relative = 1e-7});
      Release();
      if (HasFailure()) return;
    }
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(PartsTest);

}  // namespace
}  // namespace lycia
