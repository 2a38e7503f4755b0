// A line of positions (n, p) leaves two sums in the workspace; one thread adds the lines up. A patch is its own cluster's first where
// nothing repeats: then only its squares are added.
#include "kernels/cpu/parallel.h"
#include "kernels/reuse/patch_meter.h"

namespace lycia {

std::int64_t MeasurePatchesBytes(const ConvShape& shape) { return shape.N * shape.P() * static_cast<std::int64_t>(sizeof(ReuseMeter)); }

namespace cpu {
namespace {

template <typename T>
class Patches {
 public:
  Patches(const ConvShape& shape, const T* in) : s_(shape), in_(in) {}

  // Of the patches at two positions; a pixel outside is zeros.
  void Add(std::int64_t patch, std::int64_t representative, ReuseMeter& sums) const {
    const Corner a = CornerOf(patch), b = CornerOf(representative);
    for (std::int64_t r = 0; r < s_.R(); ++r) {
      for (std::int64_t t = 0; t < s_.S(); ++t) {
        const T *x = PixelAt(a, r, t), *y = PixelAt(b, r, t);
        double squares = 0, errors = 0;
        for (std::int64_t c = 0; c < s_.C; ++c) {
          const double at = x == nullptr ? 0 : static_cast<double>(static_cast<Arithmetic<T>>(x[c]));
          const double other = y == nullptr ? 0 : static_cast<double>(static_cast<Arithmetic<T>>(y[c]));
          squares += at * at;
          errors += (at - other) * (at - other);
        }
        sums.squares += squares;
        if (patch != representative) sums.error_squares += errors;
      }
    }
  }

 private:
  struct Corner {
    std::int64_t n, h, w;
  };
  Corner CornerOf(std::int64_t patch) const {
    const std::int64_t line = patch / s_.Q();
    return {line / s_.P(), s_.height.InputOf(line % s_.P(), 0), s_.width.InputOf(patch % s_.Q(), 0)};
  }
  const T* PixelAt(const Corner& corner, std::int64_t r, std::int64_t t) const {
    const std::int64_t h = corner.h + r * s_.height.dilation, w = corner.w + t * s_.width.dilation;
    if (!s_.height.Inside(h) || !s_.width.Inside(w)) return nullptr;
    return in_ + ((corner.n * s_.H() + h) * s_.W() + w) * s_.C;
  }

  const ConvShape& s_;
  const T* in_;
};

}  // namespace

void MeasurePatches(Stream& stream, const MeasurePatchesArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "MeasurePatches")) return;
  const ConvShape& s = args.shape;
  const std::int64_t lines = s.N * s.P(), Q = s.Q();
  LYCIA_CHECK_EQ(args.map.extent, lines * Q);
  auto* sums = static_cast<ReuseMeter*>(args.workspace);
  DispatchStored(args.in.dtype, [&]<typename T>() {
    const Patches<T> patches(s, args.in.as<T>());
    const Work work{.count = lines, .bytes_each = Q * s.R() * s.S() * s.C * static_cast<std::int64_t>(2 * sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t line = begin; line < end; ++line) {
        sums[line] = {};
        for (std::int64_t patch = line * Q; patch < (line + 1) * Q; ++patch) {
          patches.Add(patch, args.map.representatives[args.map.ids[patch]], sums[line]);
        }
      }
    });
  });
  *args.meter = {};
  for (std::int64_t line = 0; line < lines; ++line) {
    args.meter->squares += sums[line].squares;
    args.meter->error_squares += sums[line].error_squares;
  }
}

}  // namespace cpu
}  // namespace lycia
