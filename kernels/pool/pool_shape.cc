#include <algorithm>
#include <numeric>

#include "kernels/pool/pool.h"

namespace lycia {
namespace {

// Most windows along an axis that see one position: a tap in every so many meets it (ConvPhase).
std::int64_t Overlap(const ConvAxis& axis) {
  const std::int64_t step = axis.stride / std::gcd(axis.stride, axis.dilation);
  return std::min((axis.filter + step - 1) / step, axis.out());
}

Status CheckAxis(const char* name, const ConvAxis& axis) {
  if (axis.in < 1 || axis.filter < 1 || axis.stride < 1 || axis.dilation < 1) {
    return InvalidArgument("pool: ", name, " of image ", axis.in, ", window ", axis.filter, ", stride ", axis.stride, " and dilation ",
                           axis.dilation, " must all be at least 1");
  }
  if (axis.pad_before < 0 || axis.pad_after < 0) {
    return InvalidArgument("pool: padding of ", name, " is ", axis.pad_before, " and ", axis.pad_after, ", but cannot be negative");
  }
  if (axis.out() < 1) {
    return InvalidArgument("pool: a window that reaches over ", axis.reach(), " does not fit a ", name, " of ", axis.in, " padded by ",
                           axis.pad_before, " and ", axis.pad_after);
  }
  for (std::int64_t o = 0; o < axis.out(); ++o) {
    bool meets = false;
    for (std::int64_t tap = 0; tap < axis.filter && !meets; ++tap) meets = axis.Inside(axis.InputOf(o, tap));
    if (!meets) {
      return InvalidArgument("pool: window ", o, " along the ", name, " lies outside the image of ", axis.in,
                             "; pad by less than the window of ", axis.filter);
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckPoolShape(const PoolShape& shape, bool maximum) {
  if (shape.N < 0 || shape.C < 1) return InvalidArgument("pool: ", shape.N, " images of ", shape.C, " channels");
  LYCIA_RETURN_IF_ERROR(CheckAxis("height", shape.height));
  LYCIA_RETURN_IF_ERROR(CheckAxis("width", shape.width));
  if (maximum && shape.height.filter * shape.width.filter > 256) {
    return InvalidArgument("pool: a maximum over ", shape.height.filter, " x ", shape.width.filter,
                           " places: at most 256, as the winner is one byte");
  }
  const std::int64_t overlap = Overlap(shape.height) * Overlap(shape.width);
  if (overlap > 256) {
    return InvalidArgument("pool: ", overlap, " windows of ", shape.height.filter, " x ", shape.width.filter,
                           " lie over one pixel: at most 256; take a larger stride");
  }
  return OkStatus();
}

}  // namespace lycia
