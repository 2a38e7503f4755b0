// Patches are never written out. Pixels are signed once each, with a plane of 8 bytes a pixel; the signature of a patch is made of those
// of its pixels, and a match is verified on the image.
#include <algorithm>
#include <cstring>

#include "kernels/conv/conv.h"
#include "kernels/cpu/parallel.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/cluster_rows.h"
#include "kernels/reuse/patch_check.h"
#include "kernels/reuse/projection_keys.h"
#include "kernels/reuse/row_signature.h"

namespace lycia::cpu {
namespace {

class PatchKeys {
 public:
  // The workspace holds a pixel of zeros, then the plane.
  PatchKeys(const ConvShape& shape, const ConstTensor& in, void* workspace)
      : s_(shape),
        data_(static_cast<const char*>(in.data)),
        pixel_bytes_(shape.C * SizeOf(in.dtype)),
        zeros_(static_cast<char*>(workspace)),
        plane_(reinterpret_cast<std::uint64_t*>(zeros_ + PatchZerosBytes(in.dtype, shape))) {
    std::memset(zeros_, 0, static_cast<std::size_t>(pixel_bytes_));
  }

  // sign(pixel, count, signatures) for all pixels, and for the one outside.
  template <typename Sign>
  void SignPixels(Stream& stream, const Sign& sign) {
    const std::int64_t pixels = s_.N * s_.H() * s_.W();
    ForEachPart(stream, {.count = pixels, .bytes_each = pixel_bytes_},
                [&](std::int64_t begin, std::int64_t end, int) { sign(data_ + begin * pixel_bytes_, end - begin, plane_ + begin); });
    sign(zeros_, 1, plane_ + pixels);
  }

  void Sign(std::int64_t first, std::int64_t count, std::uint64_t* signatures) const {
    const std::uint64_t outside = plane_[s_.N * s_.H() * s_.W()];
    for (std::int64_t i = 0; i < count; ++i) {
      const Corner corner = CornerOf(first + i);
      std::uint64_t sum = 0, key = kFirstKey;
      for (std::int64_t r = 0; r < s_.R(); ++r) {
        const std::int64_t h = corner.h + r * s_.height.dilation;
        const std::uint64_t* row = s_.height.Inside(h) ? plane_ + (corner.n * s_.H() + h) * s_.W() : nullptr;
        for (std::int64_t t = 0; t < s_.S(); ++t, key += kKeyStep) {
          const std::int64_t w = corner.w + t * s_.width.dilation;
          sum += KeyedProduct(row != nullptr && s_.width.Inside(w) ? row[w] : outside, key);
        }
      }
      signatures[i] = MixBits(sum);
    }
  }

  // same(a, b, pixels): whether runs of pixels are alike.
  template <typename Same>
  bool Alike(std::int64_t patch, std::int64_t other, const Same& same) const {
    const Corner a = CornerOf(patch), b = CornerOf(other);
    const std::int64_t reach = s_.width.reach();
    const bool in_rows = s_.width.dilation == 1 && a.w >= 0 && b.w >= 0 && std::max(a.w, b.w) + reach <= s_.W();
    for (std::int64_t r = 0; r < s_.R(); ++r) {
      const std::int64_t down = r * s_.height.dilation;
      if (in_rows && s_.height.Inside(a.h + down) && s_.height.Inside(b.h + down)) {
        if (!same(PixelAt(a, down, 0), PixelAt(b, down, 0), s_.S())) return false;
        continue;
      }
      for (std::int64_t t = 0; t < s_.S(); ++t) {
        const std::int64_t right = t * s_.width.dilation;
        if (!same(PixelAt(a, down, right), PixelAt(b, down, right), 1)) return false;
      }
    }
    return true;
  }
  bool SameBits(std::int64_t patch, std::int64_t other) const {
    return Alike(patch, other, [&](const char* a, const char* b, std::int64_t pixels) {
      return std::memcmp(a, b, static_cast<std::size_t>(pixels * pixel_bytes_)) == 0;
    });
  }

 private:
  struct Corner {
    std::int64_t n, h, w;  // of tap (0, 0); may lie outside
  };
  Corner CornerOf(std::int64_t patch) const {
    const std::int64_t line = patch / s_.Q();
    return {line / s_.P(), s_.height.InputOf(line % s_.P(), 0), s_.width.InputOf(patch % s_.Q(), 0)};
  }
  const char* PixelAt(const Corner& corner, std::int64_t down, std::int64_t right) const {
    const std::int64_t h = corner.h + down, w = corner.w + right;
    if (!s_.height.Inside(h) || !s_.width.Inside(w)) return zeros_;
    return data_ + ((corner.n * s_.H() + h) * s_.W() + w) * pixel_bytes_;
  }

  const ConvShape& s_;
  const char* data_;
  std::int64_t pixel_bytes_;
  char* zeros_;
  std::uint64_t* plane_;
};

template <typename S>
void ClusterByQuantized(Stream& stream, const BuildPatchMapArgs& args, PatchKeys& keys, void* workspace) {
  const auto reciprocal = static_cast<Arithmetic<S>>(1 / args.rule.delta);
  const std::int64_t channels = args.shape.C;
  keys.SignPixels(stream, [=](const char* pixels, std::int64_t count, std::uint64_t* signatures) {
    const auto* from = reinterpret_cast<const S*>(pixels);
    ForBestIsa([=](auto isa) LYCIA_INLINE {
      for (std::int64_t i = 0; i < count; ++i) {
        signatures[i] = SignatureOfQuantized<decltype(isa)::value>(from + i * channels, channels, reciprocal);
      }
    });
  });
  const auto same = [=](const char* a, const char* b, std::int64_t pixels) {
    bool equal = false;
    bool* to = &equal;
    const auto *x = reinterpret_cast<const S*>(a), *y = reinterpret_cast<const S*>(b);
    ForBestIsa([=](auto isa) LYCIA_INLINE { *to = QuantizedEqual<decltype(isa)::value>(x, y, pixels * channels, reciprocal); });
    return equal;
  };
  ClusterRows({.sign = [&](std::int64_t first, std::int64_t count, std::uint64_t* to) { keys.Sign(first, count, to); },
               .equal = [&](std::int64_t row, std::int64_t other) { return keys.Alike(row, other, same) || keys.SameBits(row, other); }},
              args.map, workspace, *stream.pool());
}

void ClusterByBits(Stream& stream, const BuildPatchMapArgs& args, PatchKeys& keys, void* workspace) {
  const std::int64_t bytes = args.shape.C * SizeOf(args.in.dtype);
  keys.SignPixels(stream, [=](const char* pixels, std::int64_t count, std::uint64_t* signatures) {
    ForBestIsa([=](auto isa) LYCIA_INLINE {
      for (std::int64_t i = 0; i < count; ++i) signatures[i] = SignatureOfBits<decltype(isa)::value>(pixels + i * bytes, bytes);
    });
  });
  ClusterRows({.sign = [&](std::int64_t first, std::int64_t count, std::uint64_t* to) { keys.Sign(first, count, to); },
               .equal = [&](std::int64_t row, std::int64_t other) { return keys.SameBits(row, other); }},
              args.map, workspace, *stream.pool());
}

// The projections are filters: a convolution of H outputs.
void ClusterByProjections(Stream& stream, const BuildPatchMapArgs& args, const PatchKeys& patches, void* workspace) {
  const ConstMatrix& a = args.rule.projections;
  LYCIA_CHECK_EQ(a.ld, a.cols);
  ConvShape shape = args.shape;
  shape.K = a.rows;
  const ProjectionKeys keys = {workspace, ArithmeticDType(args.in.dtype), args.map.extent, a.rows};
  cpu::ConvForward(stream, {.shape = shape,
                            .in = args.in,
                            .weight = {a.data, a.dtype, {shape.K, shape.R(), shape.S(), shape.C}},
                            .out = {keys.data, keys.dtype, {shape.N, shape.P(), shape.Q(), shape.K}}});
  keys.ToCells(stream, args.rule);
  ClusterRows({.sign =
                   [&](std::int64_t first, std::int64_t count, std::uint64_t* signatures) {
                     for (std::int64_t i = 0; i < count; ++i) signatures[i] = keys.Signature(first + i);
                   },
               .equal = [&](std::int64_t row, std::int64_t other) { return keys.Equal(row, other) || patches.SameBits(row, other); }},
              args.map, static_cast<char*>(workspace) + CellBytes(args.rule, args.in.dtype, args.map.extent), *stream.pool());
}

}  // namespace

void BuildPatchMap(Stream& stream, const BuildPatchMapArgs& args) {
  const ConvShape& s = args.shape;
  if (!ArePatches(stream, "BuildPatchMap", args.map, s, args.in)) return;
  CheckRule(args.rule, args.in.dtype, s.R() * s.S() * s.C);
  PatchKeys keys(s, args.in, args.workspace);
  char* rest = static_cast<char*>(args.workspace) + PatchPlaneBytes(args.in.dtype, s);
  if (args.rule.policy == ReusePolicy::kExact) return ClusterByBits(stream, args, keys, rest);
  if (args.rule.policy == ReusePolicy::kLsh) return ClusterByProjections(stream, args, keys, rest);
  DispatchStored(args.in.dtype, [&]<typename S>() { ClusterByQuantized<S>(stream, args, keys, rest); });
}

}  // namespace lycia::cpu

namespace lycia {

std::int64_t BuildPatchMapBytes(const ReuseRule& rule, DType dtype, const ConvShape& shape) {
  return PatchPlaneBytes(dtype, shape) + BuildIndexMapBytes(rule, dtype, shape.N * shape.P() * shape.Q());
}

}  // namespace lycia
