// Partitions of patches and their convolutions: what the dense convolution gives, to the bit, by every micro kernel.
#include "kernels/reuse/mapped_conv.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/conv/conv_ref.h"
#include "kernels/gemm/testing/gemm_case.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/scatter.h"
#include "kernels/reuse/testing/reuse_case.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::IdsByPairs;
using testing::RandomValues;
using testing::TestMap;
using testing::TestTensor;
using testing::Workspace;

std::vector<ConvShape> Shapes() {
  const ConvAxis same = {.in = 13, .filter = 3, .pad_before = 1, .pad_after = 1};
  const ConvAxis wide = {.in = 18, .filter = 3, .pad_before = 1, .pad_after = 1};
  std::vector<ConvShape> shapes = {
      {.N = 2, .C = 3, .K = 5, .height = same, .width = wide},    // rows of taps are one run
      {.N = 1, .C = 33, .K = 17, .height = same, .width = wide},  // one run a tap, odd
      {.N = 2, .C = 64, .K = 32, .height = same, .width = wide},  // read in place
      {.N = 1, .C = 1, .K = 1, .height = {.in = 1}, .width = {.in = 1}},
      {.N = 3, .C = 16, .K = 40, .height = {.in = 9}, .width = {.in = 7}},  // 1 x 1
  };
  shapes.push_back({.N = 1,
                    .C = 4,
                    .K = 9,
                    .height = {.in = 15, .filter = 5, .stride = 2, .pad_before = 2, .pad_after = 1},
                    .width = {.in = 16, .filter = 3, .stride = 2, .pad_before = 0, .pad_after = 2, .dilation = 2}});
  return shapes;
}

// Images of flat regions: a pixel has one of three colours, the first of which is zeros, in blocks; a few pixels are their own.
std::vector<double> FlatImage(const ConvShape& s) {
  const std::vector<double> colours = RandomValues(3 * s.C, "colours"), own = RandomValues(s.C * s.N * s.H() * s.W(), "own");
  const RandomStream random(3, "image", 0);
  std::vector<double> image;
  for (std::int64_t pixel = 0; pixel < s.N * s.H() * s.W(); ++pixel) {
    const std::int64_t w = pixel % s.W(), h = pixel / s.W() % s.H(), n = pixel / s.W() / s.H();
    const std::int64_t colour = random.Bits(static_cast<std::uint64_t>((n * 100 + h / 6) * 100 + w / 7)) % 3;
    const bool alone = random.Bits(static_cast<std::uint64_t>(1000000 + pixel)) % 40 == 0;
    for (std::int64_t c = 0; c < s.C; ++c) {
      const double value = colour == 0 ? 0 : colours[static_cast<std::size_t>(colour * s.C + c)];
      image.push_back(alone ? own[static_cast<std::size_t>(pixel * s.C + c)] : value);
    }
  }
  return image;
}

// The element of a patch: 0 outside.
double PatchElement(const ConvShape& s, const std::vector<double>& image, std::int64_t patch, std::int64_t r, std::int64_t t,
                    std::int64_t c) {
  const std::int64_t n = patch / s.Q() / s.P(), h = s.height.InputOf(patch / s.Q() % s.P(), r), w = s.width.InputOf(patch % s.Q(), t);
  if (!s.height.Inside(h) || !s.width.Inside(w)) return 0;
  return image[static_cast<std::size_t>(((n * s.H() + h) * s.W() + w) * s.C + c)];
}
// Clusters by pairs of whole patches, equal after `key`.
template <typename Key>
std::vector<std::int32_t> PatchIds(const ConvShape& s, const std::vector<double>& image, const Key& key) {
  return IdsByPairs(s.N * s.P() * s.Q(), [&](std::int64_t a, std::int64_t b) {
    for (std::int64_t r = 0; r < s.R(); ++r) {
      for (std::int64_t t = 0; t < s.S(); ++t) {
        for (std::int64_t c = 0; c < s.C; ++c) {
          if (key(PatchElement(s, image, a, r, t, c)) != key(PatchElement(s, image, b, r, t, c))) return false;
        }
      }
    }
    return true;
  });
}

void Build(Stream& stream, const ConvShape& s, const TestTensor& in, const ReuseRule& rule, const TestMap& map) {
  const TestTensor workspace = Workspace(BuildPatchMapBytes(rule, in.tensor().dtype, s));
  BuildPatchMap(stream, {.shape = s, .in = in, .rule = rule, .map = *map, .workspace = workspace.tensor().data});
}

TEST(BuildPatchMap, ExactAndQuantizedFindEqualPatches) {
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const ConvShape& s : Shapes()) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << s.ToString());
        const TestTensor in(dtype, {s.N, s.H(), s.W(), s.C}, FlatImage(s));
        // Bits are numbers here: no zero of the image is negative.
        const auto exact = PatchIds(s, in.values(), [](double x) { return x; });
        const auto quantized = PatchIds(s, in.values(), [](double x) { return std::nearbyint(x / 0.5); });
        for (const int threads : {1, 3}) {
          const CpuStream stream({.threads = threads});
          const TestMap map(s.N * s.P() * s.Q());
          Build(*stream, s, in, {}, map);
          testing::ExpectPartition(*map, exact);
          Build(*stream, s, in, {.policy = ReusePolicy::kQuantized, .delta = 0.5}, map);
          testing::ExpectPartition(*map, quantized);
        }
      }
    }
  });
}

TEST(BuildPatchMap, NegativeZerosAreNotPadding) {
  CpuStream stream;
  const ConvShape s = {.N = 1, .C = 2, .K = 1, .height = {.in = 1, .filter = 1, .pad_before = 1, .pad_after = 1}, .width = {.in = 2}};
  const TestTensor in(DType::kF32, {1, 1, 2, 2}, {0, 0, 0, -0.0});
  const TestMap map(6);
  Build(*stream, s, in, {}, map);
  EXPECT_EQ(map.ids(), (std::vector<std::int32_t>{0, 0, 0, 1, 0, 0}));
  Build(*stream, s, in, {.policy = ReusePolicy::kQuantized, .delta = 1}, map);
  EXPECT_EQ(map.size(), 1);
}

TEST(BuildPatchMap, LshOfPatchesIsThatOfTheirRows) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const ConvShape& s : Shapes()) {
      const CpuStream one, three({.threads = 3});
      const std::int64_t depth = s.R() * s.S() * s.C, patches = s.N * s.P() * s.Q();
      const TestTensor in(dtype, {s.N, s.H(), s.W(), s.C}, FlatImage(s));
      const std::vector<double> image = in.values();
      std::vector<double> rows;
      for (std::int64_t m = 0; m < patches; ++m) {
        for (std::int64_t i = 0; i < depth; ++i) rows.push_back(PatchElement(s, image, m, i / s.C / s.S(), i / s.C % s.S(), i % s.C));
      }
      const TestTensor lowered(dtype, {patches, depth}, rows);
      const TestTensor projections(dtype, {kProjections, depth}), shifts(DType::kF64, {kProjections});
      MakeProjections(*one, {.seed = 2, .projections = projections, .shifts = shifts});
      const ReuseRule rule = {.policy = ReusePolicy::kLsh, .width = 40, .projections = AsMatrix(projections.tensor()), .shifts = shifts};
      const TestMap map(patches), again(patches), of_rows(patches);
      Build(*one, s, in, rule, map);
      Build(*three, s, in, rule, again);
      testing::ExpectPartition(*map, map.ids());
      EXPECT_EQ(map.ids(), again.ids());
      const TestTensor workspace = Workspace(BuildIndexMapBytes(rule, dtype, patches));
      BuildIndexMap(*one, {.rows = AsMatrix(lowered.tensor()), .rule = rule, .map = *of_rows, .workspace = workspace.tensor().data});
      EXPECT_EQ(map.ids(), of_rows.ids()) << s.ToString();  // sums are rounded differently, but no cell is so near its border
    }
  }
}

// Dense, and by clusters: forward with its epilogue, and the weight's gradient.
void ExpectDense(DType dtype, DType out_dtype, const ConvShape& s, int threads, bool packed) {
  SCOPED_TRACE(::testing::Message() << Name(dtype) << " -> " << Name(out_dtype) << " " << s.ToString() << (packed ? " packed" : ""));
  const CpuStream stream({.threads = threads});
  const std::int64_t patches = s.N * s.P() * s.Q(), depth = s.R() * s.S() * s.C;
  const Shape out_shape = {s.N, s.P(), s.Q(), s.K}, weight_shape = {s.K, s.R(), s.S(), s.C};
  const TestTensor in(dtype, {s.N, s.H(), s.W(), s.C}, FlatImage(s)), weight(dtype, weight_shape, RandomValues(s.K * depth, "weight"));
  const TestTensor scale(out_dtype, {s.K}, RandomValues(s.K, "scale")), bias(out_dtype, {s.K}, RandomValues(s.K, "bias"));
  TestTensor out(out_dtype, out_shape), y(out_dtype, out_shape), c(out_dtype, {patches, s.K});
  const TestTensor memory(DType::kU8, {PackedConvBytes(dtype, ConvUse::kForward, s)});
  ConvForwardArgs dense = {.shape = s, .in = in, .weight = weight, .out = out, .scale = scale, .bias = bias, .relu = true};
  if (packed) {
    dense.packed = {memory.tensor().data, dtype, ConvUse::kForward, s};
    PackConvWeight(*stream, {.weight = weight, .to = dense.packed});
  }
  ConvForward(*stream, dense);
  const TestMap map(patches);
  Build(*stream, s, in, {}, map);
  MappedConvForward(*stream, {.map = *map,
                              .shape = s,
                              .in = in,
                              .weight = weight,
                              .packed = dense.packed,
                              .c = AsMatrix(c.tensor()),
                              .scale = scale,
                              .bias = bias,
                              .relu = true});
  ScatterRows(*stream, {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor())});
  EXPECT_EQ(y.values(), out.values());

  const DType sums_dtype = ArithmeticDType(dtype);
  const TestTensor dout(dtype, out_shape, RandomValues(patches * s.K, "dout"));
  const std::vector<double> before = testing::RoundTo(sums_dtype, RandomValues(s.K * depth, "dweight"));
  TestTensor dweight(sums_dtype, weight_shape, before), sums(dtype, {patches, s.K});
  SegmentSum(*stream, {.map = *map, .dy = AsMatrix(dout.tensor()), .to = AsMatrix(sums.tensor())});
  MappedConvBackwardWeight(*stream, {.map = *map, .shape = s, .in = in, .sums = AsMatrix(sums.tensor()), .dweight = dweight});
  std::vector<double> expected = before, image = in.values(), gradient = dout.values();
  reference::ConvBackwardWeight(s, image.data(), gradient.data(), expected.data());
  // Sums are rounded to the type of the product's operand.
  EXPECT_TRUE(AllNear(dweight.values(), expected, {.of_largest = dtype == DType::kF64 ? 1e-13 : dtype == DType::kF32 ? 4e-6 : 6e-3}));
}

TEST(MappedConv, HasTheBitsOfTheDenseConvolution) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    testing::ForEveryKernel(dtype, [&](const cpu::MicroKernel&) {
      for (const ConvShape& s : Shapes()) {
        ExpectDense(dtype, dtype, s, 1, false);
        ExpectDense(dtype, DType::kF32, s, 3, true);
      }
    });
  }
  for (const ConvShape& s : Shapes()) {
    ExpectDense(DType::kF64, DType::kF64, s, 1, false);
    ExpectDense(DType::kF64, DType::kF64, s, 2, true);
  }
}

TEST(MappedConv, RefusesGroups) {
  const ConvShape s = {.N = 1, .C = 4, .K = 4, .height = {.in = 3}, .width = {.in = 3}, .groups = 2};
  const TestTensor in(DType::kF32, {1, 3, 3, 4}, RandomValues(36, "in")), weight(DType::kF32, {4, 1, 1, 2}, RandomValues(8, "weight"));
  const TestMap map(9);
  const CpuStream build, forward;
  Build(*build, s, in, {}, map);
  MappedConvForward(*forward, {.map = *map, .shape = s, .in = in, .weight = weight});
  for (const CpuStream* stream : {&build, &forward}) {
    EXPECT_THAT(std::string((*stream)->status().message()), ::testing::HasSubstr("2 groups"));
  }
}

}  // namespace
}  // namespace lycia
