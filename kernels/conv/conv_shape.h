// The sizes of a convolution over images of channels last.
#ifndef LYCIA_KERNELS_CONV_CONV_SHAPE_H_
#define LYCIA_KERNELS_CONV_CONV_SHAPE_H_

#include <cstdint>
#include <string>

#include "kernels/conv/conv_axis.h"
#include "runtime/core/status.h"

namespace lycia {

// in [N, H, W, C], weight [K, R, S, C / groups], out [N, P, Q, K]; H, R and P lie along `height`, W, S and Q along `width`. Filters
// g K / groups .. of a group g see the channels g C / groups .. .
//
// The order of the weight: with channels innermost it is the right operand of both products that read it, by rows (forward) and by
// columns (input gradient), its gradient [K, (R, S, C)] has columns of one tap side by side, as the pixels have their channels, and it
// is the order that tensor cores take.
struct ConvShape {
  std::int64_t N = 1, C = 1, K = 1;
  ConvAxis height, width;
  std::int64_t groups = 1;

  std::int64_t H() const { return height.in; }
  std::int64_t W() const { return width.in; }
  std::int64_t R() const { return height.filter; }
  std::int64_t S() const { return width.filter; }
  std::int64_t P() const { return height.out(); }
  std::int64_t Q() const { return width.out(); }
  std::int64_t group_C() const { return C / groups; }
  std::int64_t group_K() const { return K / groups; }
  // Multiply-adds count two; those of padding are not left out.
  double flops() const {
    return 2.0 * static_cast<double>(N * P() * Q()) * static_cast<double>(K) * static_cast<double>(R() * S() * group_C());
  }
  std::string ToString() const;  // "8x56x56x64 3x3x64 stride 1,1 pad 1,1 1,1 dilation 1,1 groups 1"
  bool operator==(const ConvShape&) const = default;
};

// InvalidArgument: what cannot be, with the numbers: sizes and strides below 1, negative padding, a filter longer than the padded image,
// groups that do not divide the channels.
Status CheckConvShape(const ConvShape& shape);

}  // namespace lycia

#endif  // LYCIA_KERNELS_CONV_CONV_SHAPE_H_
