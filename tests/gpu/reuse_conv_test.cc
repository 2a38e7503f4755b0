// Convolutions of distinct patches, and their weight gradients, against sums in double. Rows beyond the clusters are NaN: a kernel that
// reads one shows it.
#include <algorithm>
#include <numeric>

#include "kernels/conv/conv.h"
#include "kernels/reuse/mapped_conv.h"
#include "kernels/reuse/mapped_conv_cuda.h"
#include "kernels/reuse/patch_means.h"
#include "tests/gpu/reuse_patches_fixture.h"

namespace lycia {
namespace {

// What a convolution is by its definition at the first patch of each cluster, and the weight's gradient from sums by cluster.
struct Expected {
  Values c, dweight;
};
Expected Convolve(const ConvShape& s, const Values& rows, const Ids& representatives, const Values& weight, const Values& sums,
                  const Values& dweight) {
  Expected e{.dweight = dweight};
  const std::int64_t D = Depth(s);
  for (std::size_t j = 0; j < representatives.size(); ++j) {
    const double* x = rows.data() + representatives[j] * D;
    for (std::int64_t k = 0; k < s.K; ++k) {
      e.c.push_back(std::inner_product(x, x + D, weight.begin() + k * D, 0.0));
      for (std::int64_t d = 0; d < D; ++d) {
        e.dweight[static_cast<std::size_t>(k * D + d)] += sums[j * static_cast<std::size_t>(s.K) + static_cast<std::size_t>(k)] * x[d];
      }
    }
  }
  return e;
}

// strip: 0: the way that the call chooses.
struct Way {
  std::int64_t strip = 0;
  bool epilogue = false;
  double noise = 0;  // of the image: above 0 no patch repeats
};

class ReuseConvTest : public ReusePatchesTest {
 protected:
  void Check(const ConvShape& s, DType dtype, const Way& way) {
    SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << s.ToString() << " strips of " << way.strip);
    const Values image = FlatImage(s, dtype, way.noise);
    const Tensor in = Put(image, dtype, ImageShape(s));
    const Map map = Build(s, in, {});
    const Host host = Read(map);
    if (HasFailure()) return;
    const DType wide = ArithmeticDType(dtype), out_dtype = way.epilogue && way.strip == 0 ? wide : dtype;
    const Values weight = Random(s.K * Depth(s), "weight", dtype), bias = Random(s.K, "bias", dtype), scale = Random(s.K, "scale", wide),
                 sums = Compact(Patches(s), host.size(), s.K, "sums", dtype), before = Random(s.K * Depth(s), "dweight", wide);
    Expected expected = Convolve(s, Lowered(s, image), host.representatives, weight, sums, before);
    const Tensor w = Put(weight, dtype, {s.K, s.R(), s.S(), s.C}), c = Poisoned(out_dtype, {Patches(s), s.K});
    MappedConvForwardArgs forward{.map = map.map, .shape = s, .in = in, .weight = w, .c = AsMatrix(c)};
    if (way.epilogue) {
      forward.bias = Put(bias, dtype, {s.K});
      if (way.strip == 0) forward.scale = Put(scale, wide, {s.K});
      forward.relu = true;
      for (std::size_t i = 0; i < expected.c.size(); ++i) {
        const std::size_t k = i % static_cast<std::size_t>(s.K);
        expected.c[i] = std::max(0.0, expected.c[i] * (way.strip == 0 ? scale[k] : 1) + bias[k]);
      }
    }
    const Tensor dw = Put(before, wide, {s.K, s.R(), s.S(), s.C}), again = Put(before, wide, {s.K, s.R(), s.S(), s.C});
    const Tensor of_clusters = Put(sums, dtype, {Patches(s), s.K});
    MappedConvBackwardWeightArgs backward{.map = map.map, .shape = s, .in = in, .sums = AsMatrix(ConstTensor(of_clusters)), .dweight = dw};
    if (way.strip > 0) {
      if constexpr (kCudaEnabled) {
        cuda::MappedConvForwardByStrips(*stream_, forward, way.strip);
        cuda::MappedConvBackwardWeightByStrips(*stream_, backward, way.strip);
      }
    } else {
      MappedConvForward(*stream_, forward);
      MappedConvBackwardWeight(*stream_, backward);
      backward.dweight = again;
      MappedConvBackwardWeight(*stream_, backward);
      EXPECT_EQ(Bytes(dw), Bytes(again));
    }
    ExpectNear("c", {c.data, out_dtype, {host.size(), s.K}}, expected.c, {.of_largest = 2e-6});
    ExpectLeftAlone(c, host.size() * s.K);
    ExpectNear("dweight", dw, expected.dweight, {.of_largest = 2e-6});
    Release();
  }
};

TEST_P(ReuseConvTest, EqualsTheDefinition) {
  bool epilogue = false;
  for (const DType dtype : Stored()) {
    for (const ConvShape& s : Shapes()) {
      Check(s, dtype, {.epilogue = epilogue = !epilogue});
      if (HasFailure()) return;
    }
  }
}

// So many patches that the weight gradient's sum is cut into parts.
TEST_P(ReuseConvTest, EqualsTheDefinitionOverDeepSums) {
  const ConvShape s{.N = 3, .C = 8, .K = 8, .height = Axis(15, 2, 1, 0, 0, 1), .width = Axis(15, 1, 1, 0, 0, 1)};
  for (const DType dtype : {DType::kF32, DType::kBF16}) Check(s, dtype, {.noise = 0.5});
}

TEST_P(ReuseConvTest, StripsEqualTheDefinition) {
  if (!on_cuda()) GTEST_SKIP() << "strips are CUDA's";
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (const ConvShape& s : Shapes()) {
      for (const std::int64_t strip : {7, 1000}) Check(s, dtype, {.strip = strip, .epilogue = strip == 7});
      if (HasFailure()) return;
    }
  }
}

// In f32 no tensor cores serve the dense convolution either.
TEST_P(ReuseConvTest, RowsHaveTheBitsOfTheDenseConvolution) {
  for (const ConvShape& s : Shapes()) {
    const Tensor in = Put(FlatImage(s, DType::kF32, 0), DType::kF32, ImageShape(s)), c = Poisoned(DType::kF32, {Patches(s), s.K}),
                 weight = Put(Random(s.K * Depth(s), "weight", DType::kF32), DType::kF32, {s.K, s.R(), s.S(), s.C}),
                 out = Poisoned(DType::kF32, {s.N, s.P(), s.Q(), s.K});
    const Map map = Build(s, in, {});
    MappedConvForward(*stream_, {.map = map.map, .shape = s, .in = in, .weight = weight, .c = AsMatrix(c)});
    ConvForward(*stream_, {.shape = s, .in = in, .weight = weight, .out = out});
    const Host host = Read(map);
    const Values rows = Get(c), dense = Get(out);
    for (std::size_t i = 0; i < dense.size(); ++i) {
      const auto K = static_cast<std::size_t>(s.K);
      ASSERT_EQ(dense[i], rows[static_cast<std::size_t>(host.ids[i / K]) * K + i % K]) << s.ToString() << " " << i;
    }
    Release();
  }
}

TEST_P(ReuseConvTest, GroupsAreRefusedWithTheReason) {
  const ConvShape s{.N = 1, .C = 4, .K = 4, .height = Axis(3, 1, 1, 0, 0, 1), .width = Axis(3, 1, 1, 0, 0, 1), .groups = 2};
  const Tensor in = Put(Random(36, "in", DType::kF32), DType::kF32, ImageShape(s)), memory = Poisoned(DType::kU8, {IndexMapBytes(9)});
  const IndexMap map = IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, 9);
  const auto refusal = [&](const auto& call) {
    call();
    const std::string message(stream_->status().message());
    NewStream();
    return message;
  };
  const std::string wanted = "has 2 groups, whose patches differ; use the dense convolution";
  EXPECT_NE(refusal([&] { BuildPatchMap(*stream_, {.shape = s, .in = in, .map = map}); }).find(wanted), std::string::npos);
  EXPECT_NE(refusal([&] { ClusterPatchMeans(*stream_, {.map = map, .shape = s, .in = in}); }).find(wanted), std::string::npos);
  EXPECT_NE(refusal([&] { MappedConvForward(*stream_, {.map = map, .shape = s, .in = in}); }).find(wanted), std::string::npos);
  EXPECT_NE(refusal([&] { MappedConvBackwardWeight(*stream_, {.map = map, .shape = s, .in = in}); }).find(wanted), std::string::npos);
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ReuseConvTest);

}  // namespace
}  // namespace lycia
