// Maps of the patches of images and means of their clusters against their definitions: patches that the host writes out, clusters by pairs
// of them. Twice each, since the emulator turns the order of the threads around.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/reuse/patch_means.h"
#include "tests/gpu/reuse_patches_fixture.h"

namespace lycia {
namespace {

TEST_P(ReusePatchesTest, ExactAndQuantizedMapsAreThoseOfPairs) {
  for (const DType dtype : Stored()) {
    for (const ConvShape& s : Shapes()) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << s.ToString());
      const Values flat = FlatImage(s, dtype, 0), noisy = FlatImage(s, dtype, 0.02);
      const Ids ids = IdsOf(Lowered(s, flat), Depth(s), SameBits);
      EXPECT_LT(HostOf(ids).size(), Patches(s) == 1 ? 2 : Patches(s));
      ExpectMap(s, Put(flat, dtype, ImageShape(s)), {}, ids);
      // 1 / 0.5 is exact in every type.
      const ReuseRule quantized{.policy = ReusePolicy::kQuantized, .delta = 0.5};
      const auto like = [](double a, double b) { return std::nearbyint(a * 2) == std::nearbyint(b * 2); };
      ExpectMap(s, Put(noisy, dtype, ImageShape(s)), quantized, IdsOf(Lowered(s, noisy), Depth(s), like));
      Release();
      if (HasFailure()) return;
    }
  }
}

// A NaN is like its equals in bits, a zero of either sign like what lies outside unless bits are compared; an address off by one element.
TEST_P(ReusePatchesTest, NumbersAtTheEdgesKeepTheirPlaces) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const ConvShape s{.N = 2, .C = 2, .K = 1, .height = Axis(3, 2, 1, 1, 0, 1), .width = Axis(4, 1, 1, 1, 1, 1)};
  const Values image{0,   -0.0, nan, 0, nan, 0, 0.1, 0, inf, 0, inf, 1, 0, 0, 0, 0.2, 1, 1, nan, 0, 0.9, 1.1, -inf, 0,
                     0.1, 0,    nan, 0, nan, 0, 0.1, 0, inf, 0, inf, 1, 0, 0, 0, 0.2, 1, 1, nan, 1, 0.9, 1.1, -inf, 0};
  const ReuseRule quantized{.policy = ReusePolicy::kQuantized, .delta = 1};
  const auto near = [](double a, double b) { return std::nearbyint(a) == std::nearbyint(b); };
  for (const DType dtype : Stored()) {
    SCOPED_TRACE(Name(dtype));
    const Values rows = Lowered(s, testing::RoundTo(dtype, image));
    const Tensor in = Put(image, dtype, ImageShape(s), 1);
    ExpectMap(s, in, {}, IdsOf(rows, Depth(s), SameBits));
    // Rows with a NaN: alike where all bits are.
    const Ids exact = IdsOf(rows, Depth(s), SameBits), numbers = IdsOf(rows, Depth(s), near);
    Ids expected;
    std::vector<std::pair<std::int32_t, std::int32_t>> names;
    for (std::int64_t m = 0; m < Patches(s); ++m) {
      const bool has_nan = std::any_of(rows.begin() + m * Depth(s), rows.begin() + (m + 1) * Depth(s), [](double x) { return x != x; });
      const auto at = static_cast<std::size_t>(m);
      const std::pair<std::int32_t, std::int32_t> name{has_nan, has_nan ? exact[at] : numbers[at]};
      auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) found = names.insert(names.end(), name);
      expected.push_back(static_cast<std::int32_t>(found - names.begin()));
    }
    ExpectMap(s, in, quantized, expected);
    Release();
  }
}

// Projections are whole numbers and a half, so that rounding decides nothing.
TEST_P(ReusePatchesTest, CellsOfProjectionsAreThoseOfTheRows) {
  for (const DType dtype : Stored()) {
    for (const ConvShape& s : Shapes()) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << s.ToString());
      const auto whole = [](Values values, double factor) {
        for (double& value : values) value = std::nearbyint(factor * value);
        return values;
      };
      const Values image = whole(FlatImage(s, DType::kF64, 0.3), 1), a = whole(testing::RandomValues(kProjections * Depth(s), "a"), 1);
      const Values rows = Lowered(s, image);
      Values shifts, cells;
      for (std::int64_t h = 0; h < kProjections; ++h) shifts.push_back(0.125 * static_cast<double>(h % 4) + 0.0625);
      for (std::int64_t m = 0; m < Patches(s); ++m) {
        for (std::int64_t h = 0; h < kProjections; ++h) {
          const double sum =
              std::inner_product(rows.begin() + m * Depth(s), rows.begin() + (m + 1) * Depth(s), a.begin() + h * Depth(s), 0.0);
          cells.push_back(std::floor(sum / 8 + shifts[static_cast<std::size_t>(h)]));
        }
      }
      const ReuseRule rule{.policy = ReusePolicy::kLsh,
                           .width = 8,
                           .projections = AsMatrix(ConstTensor(Put(a, dtype, {kProjections, Depth(s)}))),
                           .shifts = Put(shifts, DType::kF64, {kProjections})};
      ExpectMap(s, Put(image, dtype, ImageShape(s)), rule, IdsOf(cells, kProjections, [](double x, double y) { return x == y; }));
      Release();
      if (HasFailure()) return;
    }
  }
}

TEST_P(ReusePatchesTest, MeansAndTheirMeterAreThoseOfTheRows) {
  const ReuseRule rule{.policy = ReusePolicy::kQuantized, .delta = 0.5};
  for (const DType dtype : Stored()) {
    for (const ConvShape& s : Shapes()) {
      for (const double noise : {0.0, 0.02}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << s.ToString() << " +- " << noise);
        const Values image = FlatImage(s, dtype, noise), rows = Lowered(s, image);
        const Tensor in = Put(image, dtype, ImageShape(s));
        const Map map = Build(s, in, rule);
        const Host host = Read(map);
        if (HasFailure()) return;
        const auto D = static_cast<std::size_t>(Depth(s));
        Values means(static_cast<std::size_t>(host.size()) * D);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const auto j = static_cast<std::size_t>(host.ids[i / D]);
          means[j * D + i % D] += rows[i] / host.counts[j];
        }
        double squares = 0, errors = 0;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const double off = rows[i] - means[static_cast<std::size_t>(host.ids[i / D]) * D + i % D];
          squares += rows[i] * rows[i];
          errors += off * off;
        }
        const Tensor to = Poisoned(dtype, {Patches(s), Depth(s)}), alone = Poisoned(dtype, {Patches(s), Depth(s)}),
                     meter = Poisoned(DType::kF64, {2}), workspace = Poisoned(DType::kU8, {ClusterPatchMeansBytes(dtype, s)});
        ClusterPatchMeansArgs args{.map = map.map,
                                   .shape = s,
                                   .in = in,
                                   .to = AsMatrix(to),
                                   .meter = static_cast<ReuseMeter*>(meter.data),
                                   .workspace = workspace.data};
        ClusterPatchMeans(*stream_, args);
        args.to = AsMatrix(alone);
        args.meter = nullptr;
        ClusterPatchMeans(*stream_, args);
        ExpectNear("means", {to.data, dtype, {host.size(), Depth(s)}}, means, {.of_largest = 1e-6});
        const Values measured = Get(meter);
        EXPECT_NEAR(measured[0], squares, 1e-6 * squares);
        EXPECT_NEAR(measured[1], errors, 1e-5 * errors + 1e-20 * squares);  // the truth's means are rounded too
        EXPECT_TRUE(noise > 0 || measured[1] == 0);
        ExpectLeftAlone(to, host.size() * Depth(s));
        EXPECT_EQ(Bytes(alone), Bytes(to));
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ReusePatchesTest);

}  // namespace
}  // namespace lycia
