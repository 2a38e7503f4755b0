// The specification of pool.h. N is float, double or, for averages, std::complex<double>.
#ifndef LYCIA_KERNELS_POOL_POOL_REF_H_
#define LYCIA_KERNELS_POOL_POOL_REF_H_

#include <cmath>
#include <cstdint>

#include "kernels/pool/pool.h"

namespace lycia::reference {

// begin(out index); then place(out index, in index, number of the place in its window) for what of the window lies in the image.
template <typename Begin, typename Place>
void ForEachWindow(const PoolShape& s, const Begin& begin, const Place& place) {
  for (std::int64_t n = 0; n < s.N; ++n) {
    for (std::int64_t p = 0; p < s.P(); ++p) {
      for (std::int64_t q = 0; q < s.Q(); ++q) {
        for (std::int64_t c = 0; c < s.C; ++c) {
          const std::int64_t out = ((n * s.P() + p) * s.Q() + q) * s.C + c;
          begin(out);
          for (std::int64_t r = 0; r < s.height.filter; ++r) {
            for (std::int64_t t = 0; t < s.width.filter; ++t) {
              const std::int64_t h = s.height.InputOf(p, r), w = s.width.InputOf(q, t);
              if (!s.height.Inside(h) || !s.width.Inside(w)) continue;
              place(out, ((n * s.height.in + h) * s.width.in + w) * s.C + c, r * s.width.filter + t);
            }
          }
        }
      }
    }
  }
}

template <typename N>
void MaxPoolForward(const PoolShape& shape, const N* in, N* out, std::int64_t* winner) {
  bool first = true;
  ForEachWindow(
      shape, [&](std::int64_t) { first = true; },
      [&](std::int64_t o, std::int64_t i, std::int64_t place) {
        if (first || in[i] > out[o] || (std::isnan(in[i]) && !std::isnan(out[o]))) {
          out[o] = in[i];
          winner[o] = place;
        }
        first = false;
      });
}
// din +=.
template <typename N>
void MaxPoolBackward(const PoolShape& shape, const N* dout, const std::int64_t* winner, N* din) {
  ForEachWindow(
      shape, [](std::int64_t) {},
      [&](std::int64_t o, std::int64_t i, std::int64_t place) {
        if (winner[o] == place) din[i] += dout[o];
      });
}

// What the sum over window `out` is divided by.
inline double PoolCount(const PoolShape& shape, std::int64_t out, bool count_padding) {
  if (count_padding) return static_cast<double>(shape.height.filter * shape.width.filter);
  const std::int64_t q = out / shape.C % shape.Q(), p = out / shape.C / shape.Q() % shape.P();
  std::int64_t rows = 0, cols = 0;
  for (std::int64_t r = 0; r < shape.height.filter; ++r) rows += shape.height.Inside(shape.height.InputOf(p, r));
  for (std::int64_t t = 0; t < shape.width.filter; ++t) cols += shape.width.Inside(shape.width.InputOf(q, t));
  return static_cast<double>(rows * cols);
}
template <typename N>
void AveragePoolForward(const PoolShape& shape, bool count_padding, const N* in, N* out) {
  ForEachWindow(
      shape, [&](std::int64_t o) { out[o] = N(0); },
      [&](std::int64_t o, std::int64_t i, std::int64_t) { out[o] += in[i] / N(PoolCount(shape, o, count_padding)); });
}
// din +=.
template <typename N>
void AveragePoolBackward(const PoolShape& shape, bool count_padding, const N* dout, N* din) {
  ForEachWindow(
      shape, [](std::int64_t) {},
      [&](std::int64_t o, std::int64_t i, std::int64_t) { din[i] += dout[o] / N(PoolCount(shape, o, count_padding)); });
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_POOL_POOL_REF_H_
