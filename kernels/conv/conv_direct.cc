#include "kernels/conv/conv_direct.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace lycia::cpu {
namespace {

// Where pixels and filters begin.
struct Places {
  explicit Places(const ConvShape& s) : shape(s) {}
  std::int64_t In(std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t group) const {
    return ((n * shape.H() + h) * shape.W() + w) * shape.C + group * shape.group_C();
  }
  std::int64_t Out(std::int64_t n, std::int64_t p, std::int64_t q) const { return ((n * shape.P() + p) * shape.Q() + q) * shape.K; }
  std::int64_t Weight(std::int64_t k, std::int64_t r, std::int64_t s) const {
    return ((k * shape.R() + r) * shape.S() + s) * shape.group_C();
  }
  const ConvShape& shape;
};

const double* DataOf(const ConstTensor& tensor) { return tensor.data == nullptr ? nullptr : tensor.as<double>(); }
const double* FiltersOf(const ConstTensor& weight, const PackedConvWeight& packed) {
  return packed.data != nullptr ? static_cast<const double*>(packed.data) : weight.as<double>();
}

// f(r, s, h, w) for the taps of output p, q that see the image.
template <typename F>
void ForEachTap(const ConvShape& shape, std::int64_t p, std::int64_t q, const F& f) {
  for (std::int64_t r = 0; r < shape.R(); ++r) {
    for (std::int64_t s = 0; s < shape.S(); ++s) {
      const std::int64_t h = shape.height.InputOf(p, r), w = shape.width.InputOf(q, s);
      if (shape.height.Inside(h) && shape.width.Inside(w)) f(r, s, h, w);
    }
  }
}

}  // namespace

void ConvForwardDirect(Stream& stream, const ConvForwardArgs& args) {
  const ConvShape& shape = args.shape;
  const Places at(shape);
  const std::int64_t P = shape.P(), Q = shape.Q(), C = shape.group_C();
  const double *in = DataOf(args.in), *filters = FiltersOf(args.weight, args.packed);
  const double *scale = DataOf(args.scale), *bias = DataOf(args.bias), *residual = DataOf(args.residual);
  double* out = args.out.as<double>();
  ForEachPart(stream, {.count = shape.N * P, .bytes_each = Q * shape.K * C * 8}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / P, p = row % P;
      for (std::int64_t q = 0; q < Q; ++q) {
        for (std::int64_t k = 0; k < shape.K; ++k) {
          double sum = 0;
          ForEachTap(shape, p, q, [&](std::int64_t r, std::int64_t s, std::int64_t h, std::int64_t w) {
            const double *x = in + at.In(n, h, w, k / shape.group_K()), *f = filters + at.Weight(k, r, s);
            for (std::int64_t c = 0; c < C; ++c) sum += x[c] * f[c];
          });
          const std::int64_t o = at.Out(n, p, q) + k;
          if (scale != nullptr) sum *= scale[k];
          if (bias != nullptr) sum += bias[k];
          if (residual != nullptr) sum += residual[o];
          out[o] = args.relu && sum < 0 ? 0 : sum;
        }
      }
    }
  });
}

void ConvBackwardInputDirect(Stream& stream, const ConvBackwardInputArgs& args) {
  const ConvShape& shape = args.shape;
  const Places at(shape);
  const std::int64_t H = shape.H(), W = shape.W(), C = shape.group_C();
  const double *dout = DataOf(args.dout), *filters = FiltersOf(args.weight, args.packed);
  double* din = args.din.as<double>();
  ForEachPart(stream, {.count = shape.N * H, .bytes_each = W * shape.K * C * 8}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / H, h = row % H;
      for (std::int64_t w = 0; w < W; ++w) {
        double* pixel = din + at.In(n, h, w, 0);
        if (!args.accumulate) std::fill_n(pixel, shape.C, 0.0);
        for (std::int64_t r = 0; r < shape.R(); ++r) {
          for (std::int64_t s = 0; s < shape.S(); ++s) {
            const std::int64_t p = shape.height.OutputOf(h, r), q = shape.width.OutputOf(w, s);
            if (p < 0 || q < 0) continue;
            for (std::int64_t k = 0; k < shape.K; ++k) {
              const double d = dout[at.Out(n, p, q) + k];
              const double* f = filters + at.Weight(k, r, s);
              double* x = pixel + k / shape.group_K() * C;
              for (std::int64_t c = 0; c < C; ++c) x[c] += d * f[c];
            }
          }
        }
      }
    }
  });
}

void ConvBackwardWeightDirect(Stream& stream, const ConvBackwardWeightArgs& args) {
  const ConvShape& shape = args.shape;
  const Places at(shape);
  const std::int64_t C = shape.group_C(), pixels = shape.N * shape.P() * shape.Q();
  const double *in = DataOf(args.in), *dout = DataOf(args.dout);
  double *dweight = args.dweight.as<double>(), *dbias = args.dbias.data == nullptr ? nullptr : args.dbias.as<double>();
  ForEachPart(stream, {.count = shape.K, .bytes_each = pixels * C * 8}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t k = begin; k < end; ++k) {
      for (std::int64_t m = 0; m < pixels; ++m) {
        const std::int64_t n = m / shape.Q() / shape.P(), p = m / shape.Q() % shape.P(), q = m % shape.Q();
        const double d = dout[m * shape.K + k];
        if (dbias != nullptr) dbias[k] += d;
        ForEachTap(shape, p, q, [&](std::int64_t r, std::int64_t s, std::int64_t h, std::int64_t w) {
          const double* x = in + at.In(n, h, w, k / shape.group_K());
          double* f = dweight + at.Weight(k, r, s);
          for (std::int64_t c = 0; c < C; ++c) f[c] += d * x[c];
        });
      }
    }
  });
}

}  // namespace lycia::cpu
