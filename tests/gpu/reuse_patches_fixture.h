// Images whose patches repeat, what their partitions are by definition, and maps on the device: for tests of kernels over patches.
#ifndef LYCIA_TESTS_GPU_REUSE_PATCHES_FIXTURE_H_
#define LYCIA_TESTS_GPU_REUSE_PATCHES_FIXTURE_H_

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/conv/conv_shape.h"
#include "kernels/reuse/build_index_map.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {

using Ids = std::vector<std::int32_t>;

inline ConvAxis Axis(std::int64_t in, std::int64_t filter, std::int64_t stride, std::int64_t before, std::int64_t after,
                     std::int64_t dilation) {
  return {.in = in, .filter = filter, .stride = stride, .pad_before = before, .pad_after = after, .dilation = dilation};
}
// Few channels and many, packs of them and not, every stride, padding and dilation, tiles that end within themselves.
inline std::vector<ConvShape> Shapes() {
  return {{.N = 2, .C = 3, .K = 5, .height = Axis(6, 3, 1, 1, 1, 1), .width = Axis(7, 3, 1, 1, 1, 1)},
          {.N = 2, .C = 16, .K = 8, .height = Axis(9, 3, 2, 1, 0, 2), .width = Axis(8, 2, 1, 0, 2, 3)},
          {.N = 3, .C = 8, .K = 72, .height = Axis(5, 1, 1, 0, 0, 1), .width = Axis(5, 1, 1, 0, 0, 1)},
          {.N = 1, .C = 1, .K = 1, .height = Axis(1, 1, 1, 0, 0, 1), .width = Axis(1, 1, 1, 0, 0, 1)},
          {.N = 1, .C = 4, .K = 8, .height = Axis(10, 2, 3, 2, 1, 1), .width = Axis(11, 3, 2, 0, 1, 2)}};
}
inline std::int64_t Patches(const ConvShape& s) { return s.N * s.P() * s.Q(); }
inline std::int64_t Depth(const ConvShape& s) { return s.R() * s.S() * s.C; }
inline Shape ImageShape(const ConvShape& s) { return {s.N, s.H(), s.W(), s.C}; }

// Flat regions in one of three colours, the first of which is zero; each element off by up to `noise`.
inline Values FlatImage(const ConvShape& s, DType dtype, double noise) {
  const Values colours = testing::RandomValues(3 * s.C, "colours"), off = testing::RandomValues(ImageShape(s).elements(), "noise", noise);
  Values image;
  for (std::int64_t i = 0; i < ImageShape(s).elements(); ++i) {
    const std::int64_t pixel = i / s.C, w = pixel % s.W(), h = pixel / s.W() % s.H(), n = pixel / s.W() / s.H();
    const std::int64_t colour = (n + h / 3 + w / 4 * 2) % 3;
    image.push_back((colour == 0 ? 0 : colours[static_cast<std::size_t>(colour * s.C + i % s.C)]) + off[static_cast<std::size_t>(i)]);
  }
  return testing::RoundTo(dtype, image);
}
// [patches, depth]: zeros outside the image.
inline Values Lowered(const ConvShape& s, const Values& image) {
  Values rows;
  for (std::int64_t m = 0; m < Patches(s); ++m) {
    for (std::int64_t i = 0; i < Depth(s); ++i) {
      const std::int64_t c = i % s.C, t = i / s.C % s.S(), r = i / s.C / s.S(), n = m / s.Q() / s.P();
      const std::int64_t h = s.height.InputOf(m / s.Q() % s.P(), r), w = s.width.InputOf(m % s.Q(), t);
      const bool inside = s.height.Inside(h) && s.width.Inside(w);
      rows.push_back(inside ? image[static_cast<std::size_t>(((n * s.H() + h) * s.W() + w) * s.C + c)] : 0);
    }
  }
  return rows;
}
// Clusters in the order of their first rows: like(a, b) of pairs of elements, all of a row.
template <typename Like>
Ids IdsOf(const Values& rows, std::int64_t depth, const Like& like) {
  Ids ids;
  std::vector<std::size_t> firsts;
  const auto D = static_cast<std::size_t>(depth);
  for (std::size_t m = 0; m * D < rows.size(); ++m) {
    std::size_t j = 0;
    const auto alike = [&](std::size_t first) {
      for (std::size_t i = 0; i < D; ++i) {
        if (!like(rows[m * D + i], rows[first * D + i])) return false;
      }
      return true;
    };
    while (j < firsts.size() && !alike(firsts[j])) ++j;
    if (j == firsts.size()) firsts.push_back(m);
    ids.push_back(static_cast<std::int32_t>(j));
  }
  return ids;
}
inline bool SameBits(double a, double b) { return (a == b && std::signbit(a) == std::signbit(b)) || (a != a && b != b); }

class ReusePatchesTest : public KernelFixture {
 protected:
  // A map in the device's memory.
  struct Map {
    Tensor memory;
    IndexMap map;
  };
  Map Build(const ConvShape& s, const Tensor& in, const ReuseRule& rule) {
    const Tensor memory = Poisoned(DType::kU8, {IndexMapBytes(Patches(s))});
    const Map map{memory, IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, Patches(s))};
    const Tensor workspace = Poisoned(DType::kU8, {BuildPatchMapBytes(rule, in.dtype, s)});
    BuildPatchMap(*stream_, {.shape = s, .in = in, .rule = rule, .map = map.map, .workspace = workspace.data});
    return map;
  }
  struct Host {
    Ids ids, representatives, counts, members, offsets;
    std::int64_t size() const { return static_cast<std::int64_t>(counts.size()); }
    bool operator==(const Host&) const = default;
  };
  Host Read(const Map& map) {
    std::string bytes = Bytes(map.memory);
    const IndexMap m = IndexMapIn(bytes.data(), MapDim::kM, MapKind::kPartition, map.map.extent);
    if (*m.size < 0 || *m.size > m.extent) {
      ADD_FAILURE() << "a map of " << *m.size << " clusters";
      return {};
    }
    return {{m.ids, m.ids + m.extent},
            {m.representatives, m.representatives + *m.size},
            {m.counts, m.counts + *m.size},
            {m.members, m.members + m.extent},
            {m.offsets, m.offsets + *m.size + 1}};
  }
  static Host HostOf(const Ids& ids) {
    Host host{.ids = ids, .offsets = {0}};
    for (std::int32_t j = 0; std::size_t(host.offsets.back()) < ids.size(); ++j) {
      for (std::size_t m = 0; m < ids.size(); ++m) {
        if (ids[m] == j) host.members.push_back(static_cast<std::int32_t>(m));
      }
      host.representatives.push_back(host.members[static_cast<std::size_t>(host.offsets.back())]);
      host.counts.push_back(static_cast<std::int32_t>(host.members.size()) - host.offsets.back());
      host.offsets.push_back(static_cast<std::int32_t>(host.members.size()));
    }
    return host;
  }
  void ExpectMap(const ConvShape& s, const Tensor& in, const ReuseRule& rule, const Ids& ids) {
    EXPECT_EQ(Read(Build(s, in, rule)), HostOf(ids));
    EXPECT_EQ(Read(Build(s, in, rule)), HostOf(ids)) << "again";
  }
  // [rows, cols], of which those from `used` on are NaN.
  static Values Compact(std::int64_t rows, std::int64_t used, std::int64_t cols, const char* name, DType dtype) {
    Values values = Random(rows * cols, name, dtype);
    std::fill(values.begin() + used * cols, values.end(), std::numeric_limits<double>::quiet_NaN());
    return values;
  }
  void ExpectLeftAlone(const Tensor& tensor, std::int64_t elements) {
    const std::string bytes = Bytes(tensor);
    for (auto i = static_cast<std::size_t>(elements * SizeOf(tensor.dtype)); i < bytes.size(); ++i) ASSERT_EQ(bytes[i], '\xff') << i;
  }
};

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_REUSE_PATCHES_FIXTURE_H_
