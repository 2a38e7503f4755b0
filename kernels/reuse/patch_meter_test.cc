#include "kernels/reuse/patch_meter.h"

#include <gtest/gtest.h>

#include "kernels/reuse/build_index_map.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::TestTensor;

struct Case {
  ConvShape shape;
  double delta;
};

// The same sums over patches that are written out.
ReuseMeter Expected(const ConvShape& s, const std::vector<double>& in, const IndexMap& map) {
  std::vector<std::vector<double>> patches;
  for (std::int64_t n = 0; n < s.N; ++n) {
    for (std::int64_t p = 0; p < s.P(); ++p) {
      for (std::int64_t q = 0; q < s.Q(); ++q) {
        std::vector<double>& patch = patches.emplace_back();
        for (std::int64_t r = 0; r < s.R(); ++r) {
          for (std::int64_t t = 0; t < s.S(); ++t) {
            for (std::int64_t c = 0; c < s.C; ++c) {
              const std::int64_t h = s.height.InputOf(p, r), w = s.width.InputOf(q, t);
              const bool inside = s.height.Inside(h) && s.width.Inside(w);
              patch.push_back(inside ? in[static_cast<std::size_t>(((n * s.H() + h) * s.W() + w) * s.C + c)] : 0);
            }
          }
        }
      }
    }
  }
  ReuseMeter sums;
  for (std::size_t m = 0; m < patches.size(); ++m) {
    const std::vector<double>& first = patches[static_cast<std::size_t>(map.representatives[map.ids[m]])];
    for (std::size_t i = 0; i < first.size(); ++i) {
      sums.squares += patches[m][i] * patches[m][i];
      sums.error_squares += (patches[m][i] - first[i]) * (patches[m][i] - first[i]);
    }
  }
  return sums;
}

TEST(PatchMeterTest, EqualsSumsOverWrittenOutPatches) {
  const Case cases[] = {
      {{.N = 2, .C = 1, .K = 1, .height = {.in = 9, .filter = 3, .pad_before = 1, .pad_after = 1}, .width = {.in = 7, .filter = 3}}, 0.5},
      {{.N = 1, .C = 3, .K = 1, .height = {.in = 8, .filter = 2, .stride = 2}, .width = {.in = 6, .filter = 3, .pad_before = 2}}, 1},
      {{.N = 1, .C = 2, .K = 1, .height = {.in = 7, .filter = 3, .dilation = 2}, .width = {.in = 7, .filter = 1}}, 2},
      {{.N = 3, .C = 5, .K = 1, .height = {.in = 1, .filter = 1}, .width = {.in = 1, .filter = 1}}, 4},
  };
  for (const Case& c : cases) {
    const ConvShape& s = c.shape;
    const Shape shape{s.N, s.H(), s.W(), s.C};
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
      std::vector<double> bits;
      for (const int threads : {1, 2, 3}) {
        const CpuStream stream({.threads = threads});
        const std::vector<double> values = testing::RoundTo(dtype, testing::RandomValues(shape.elements(), "patches"));
        const TestTensor in(dtype, shape, values);
        const std::int64_t M = s.N * s.P() * s.Q();
        const TestTensor memory(DType::kU8, {IndexMapBytes(M)});
        const IndexMap map = IndexMapIn(memory.tensor().data, MapDim::kM, MapKind::kPartition, M);
        const ReuseRule rule{.policy = ReusePolicy::kQuantized, .delta = c.delta};
        const TestTensor workspace(DType::kU8, {BuildPatchMapBytes(rule, dtype, s)}), lines(DType::kU8, {MeasurePatchesBytes(s)});
        BuildPatchMap(*stream, {.shape = s, .in = in, .rule = rule, .map = map, .workspace = workspace.tensor().data});
        ReuseMeter meter;
        MeasurePatches(*stream, {.map = map, .shape = s, .in = in, .meter = &meter, .workspace = lines.tensor().data});
        ASSERT_TRUE(stream->Synchronize().ok());
        const ReuseMeter expected = Expected(s, values, map);
        EXPECT_NEAR(meter.squares, expected.squares, 1e-12 * expected.squares);
        EXPECT_NEAR(meter.error_squares, expected.error_squares, 1e-12 * expected.squares);
        bits.push_back(meter.error_squares);
      }
      EXPECT_EQ(bits[0], bits[1]);
      EXPECT_EQ(bits[0], bits[2]);
    }
  }
}

}  // namespace
}  // namespace lycia
