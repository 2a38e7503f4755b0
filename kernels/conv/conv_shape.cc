#include "kernels/conv/conv_shape.h"

namespace lycia {
namespace {

Status CheckAxis(const char* name, const ConvAxis& axis) {
  if (axis.in < 1 || axis.filter < 1 || axis.stride < 1 || axis.dilation < 1) {
    return InvalidArgument("convolution: ", name, " of image ", axis.in, ", filter ", axis.filter, ", stride ", axis.stride,
                           " and dilation ", axis.dilation, " must all be at least 1");
  }
  if (axis.pad_before < 0 || axis.pad_after < 0) {
    return InvalidArgument("convolution: padding of ", name, " is ", axis.pad_before, " and ", axis.pad_after, ", but cannot be negative");
  }
  if (axis.out() < 1) {
    return InvalidArgument("convolution: a filter that reaches over ", axis.reach(), " does not fit a ", name, " of ", axis.in,
                           " padded by ", axis.pad_before, " and ", axis.pad_after, "; pad more or take a smaller filter or dilation");
  }
  return OkStatus();
}

}  // namespace

std::string ConvShape::ToString() const {
  return StrCat(N, "x", H(), "x", W(), "x", C, " ", R(), "x", S(), "x", K, " stride ", height.stride, ",", width.stride, " pad ",
                height.pad_before, ",", height.pad_after, " ", width.pad_before, ",", width.pad_after, " dilation ", height.dilation, ",",
                width.dilation, " groups ", groups);
}

Status CheckConvShape(const ConvShape& shape) {
  if (shape.N < 0 || shape.C < 1 || shape.K < 1 || shape.groups < 1) {
    return InvalidArgument("convolution: ", shape.N, " images of ", shape.C, " channels, ", shape.K, " filters in ", shape.groups,
                           " groups: none may be below 1 (images: 0)");
  }
  if (shape.C % shape.groups != 0 || shape.K % shape.groups != 0) {
    return InvalidArgument("convolution: ", shape.groups, " groups must divide ", shape.C, " channels and ", shape.K, " filters");
  }
  LYCIA_RETURN_IF_ERROR(CheckAxis("height", shape.height));
  return CheckAxis("width", shape.width);
}

}  // namespace lycia
