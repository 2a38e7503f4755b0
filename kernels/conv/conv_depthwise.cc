#include "kernels/conv/conv_depthwise.h"

#include "kernels/conv/window.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

constexpr int kMostTaps = 64;
constexpr std::int64_t kMostFilterBytes = std::int64_t{256} << 10;

template <typename T>
void Turn(const T* weight, const ConvShape& s, float* to) {
  const std::int64_t taps = s.R() * s.S();
  for (std::int64_t c = 0; c < s.C; ++c) {
    for (std::int64_t t = 0; t < taps; ++t) to[t * s.C + c] = static_cast<float>(weight[c * taps + t]);
  }
}

// The turned filters: the packed ones, or made in the first thread's workspace, which no other thread writes meanwhile.
template <typename T>
const float* TurnedFilters(Stream& stream, const ConvShape& s, const ConstTensor& weight, const PackedConvWeight& packed) {
  if (packed.data != nullptr) return static_cast<const float*>(packed.data);
  LYCIA_CHECK_LE(PackedConvBytesDepthwise(s), static_cast<std::int64_t>(stream.pool()->workspace(0).size()));
  auto* to = reinterpret_cast<float*>(stream.pool()->workspace(0).data());
  Turn(weight.as<T>(), s, to);
  return to;
}

// What a pixel is made of: where the pixels of the other side stand, and the filters' taps between them.
struct Taps {
  int count = 0;
  std::int64_t at[kMostTaps], filter[kMostTaps];
  void Add(std::int64_t pixel, std::int64_t tap) {
    at[count] = pixel;
    filter[count++] = tap;
  }
};

template <typename V, typename L, typename T>
LYCIA_INLINE inline V SumOfTaps(const L& lanes, const Taps& taps, const T* from, const float* filters) {
  V sum{};
  for (int i = 0; i < taps.count; ++i) sum += lanes.Get(from + taps.at[i]) * lanes.Get(filters + taps.filter[i]);
  return sum;
}

// A tensor that may be bf16 or f32, or absent.
struct Either {
  explicit Either(const ConstTensor& tensor)
      : bf16(tensor.data != nullptr && tensor.dtype == DType::kBF16 ? tensor.as<BFloat16>() : nullptr),
        f32(tensor.data != nullptr && tensor.dtype == DType::kF32 ? tensor.as<float>() : nullptr) {}
  bool there() const { return bf16 != nullptr || f32 != nullptr; }
  template <typename V, typename L>
  LYCIA_INLINE V Get(const L& lanes, std::int64_t at) const {
    return bf16 != nullptr ? lanes.Get(bf16 + at) : lanes.Get(f32 + at);
  }
  const BFloat16* bf16;
  const float* f32;
};

template <typename T, typename To>
void Forward(Stream& stream, const ConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  const std::int64_t C = s.C, P = s.P(), Q = s.Q();
  const T* in = args.in.as<T>();
  const float* filters = TurnedFilters<T>(stream, s, args.weight, args.packed);
  To* out = args.out.as<To>();
  const Either scale(args.scale), bias(args.bias), residual(args.residual);
  const bool relu = args.relu;
  ForEachPart(stream, {.count = s.N * P, .bytes_each = s.R() * s.S() * Q * C * 4}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / P, p = row % P;
      const TapRange rows = InsideTaps(s.height, p);
      for (std::int64_t q = 0; q < Q; ++q) {
        const TapRange cols = InsideTaps(s.width, q);
        Taps taps;
        for (std::int64_t r = rows.begin; r < rows.end; ++r) {
          const std::int64_t line = (n * s.H() + s.height.InputOf(p, r)) * s.W();
          for (std::int64_t t = cols.begin; t < cols.end; ++t) taps.Add((line + s.width.InputOf(q, t)) * C, (r * s.S() + t) * C);
        }
        const Taps* const all = &taps;
        const std::int64_t at = (row * Q + q) * C;
        ForBestIsa([=](auto isa) LYCIA_INLINE {
          using V = Vector<float, decltype(isa)::value>;
          ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
            V sum = SumOfTaps<V>(lanes, *all, in, filters);
            if (scale.there()) sum *= scale.template Get<V>(lanes, 0);
            if (bias.there()) sum += bias.template Get<V>(lanes, 0);
            if (residual.there()) sum += residual.template Get<V>(lanes, at);
            if (relu) sum = sum < 0 ? V{} : sum;
            lanes.Put(out + at, sum);
          });
        });
      }
    }
  });
}

template <typename T>
void BackwardInput(Stream& stream, const ConvBackwardInputArgs& args) {
  const ConvShape& s = args.shape;
  const std::int64_t C = s.C, H = s.H(), W = s.W();
  const T* dout = args.dout.as<T>();
  const float* filters = TurnedFilters<T>(stream, s, args.weight, args.packed);
  T* din = args.din.as<T>();
  const bool accumulate = args.accumulate;
  ForEachPart(stream, {.count = s.N * H, .bytes_each = s.R() * s.S() * W * C * 4}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / H, h = row % H;
      for (std::int64_t w = 0; w < W; ++w) {
        Taps taps;
        for (std::int64_t r = 0; r < s.R(); ++r) {
          const std::int64_t p = s.height.OutputOf(h, r);
          for (std::int64_t t = 0; p >= 0 && t < s.S(); ++t) {
            const std::int64_t q = s.width.OutputOf(w, t);
            if (q >= 0) taps.Add(((n * s.P() + p) * s.Q() + q) * C, (r * s.S() + t) * C);
          }
        }
        const Taps* const all = &taps;
        T* const to = din + (row * W + w) * C;
        ForBestIsa([=](auto isa) LYCIA_INLINE {
          using V = Vector<float, decltype(isa)::value>;
          ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
            const V sum = SumOfTaps<V>(lanes, *all, dout, filters);
            lanes.Put(to, accumulate ? lanes.Get(to) + sum : sum);
          });
        });
      }
    }
  });
}

// The gradient of one tap for some channels: rows of outputs are summed first, so that sums stay short.
template <typename V, typename L, typename T>
LYCIA_INLINE inline V TapGradient(const L& lanes, const ConvShape& s, std::int64_t r, std::int64_t t, const T* in, const T* dout) {
  const TapRange rows = OutputsOf(s.height, r), cols = OutputsOf(s.width, t);
  const std::int64_t step = s.width.stride * s.C;
  V total{};
  for (std::int64_t n = 0; n < s.N; ++n) {
    for (std::int64_t p = rows.begin; p < rows.end; ++p) {
      const T* d = dout + ((n * s.P() + p) * s.Q() + cols.begin) * s.C;
      const T* x = in + ((n * s.H() + s.height.InputOf(p, r)) * s.W() + s.width.InputOf(cols.begin, t)) * s.C;
      V sum{};
      for (std::int64_t q = cols.begin; q < cols.end; ++q, d += s.C, x += step) sum += lanes.Get(d) * lanes.Get(x);
      total += sum;
    }
  }
  return total;
}

template <typename T>
void BackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  const std::int64_t taps = s.R() * s.S();
  const T *in = args.in.as<T>(), *dout = args.dout.as<T>();
  float* dweight = args.dweight.as<float>();
  const Work work = {.count = s.C, .unit = 16, .bytes_each = s.N * s.P() * s.Q() * taps * 4};
  ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
    const ConvShape* const shape = &s;
    ForBestIsa([=](auto isa) LYCIA_INLINE {
      using V = Vector<float, decltype(isa)::value>;
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        ForEachVector<V>(end - begin, [&](auto lanes) LYCIA_INLINE {
          const V sum = TapGradient<V>(lanes, *shape, tap / shape->S(), tap % shape->S(), in + begin, dout + begin);
          for (std::int64_t i = 0; i < lanes.count; ++i) dweight[(begin + lanes.first + i) * taps + tap] += sum[i];
        });
      }
    });
  });
}

template <typename F>
void ForType(DType dtype, const F& f) {
  if (dtype == DType::kBF16) return f.template operator()<BFloat16>();
  f.template operator()<float>();
}

}  // namespace

bool IsDepthwise(const ConvShape& shape) {
  return shape.groups > 1 && shape.groups == shape.C && shape.groups == shape.K && shape.R() * shape.S() <= kMostTaps &&
         PackedConvBytesDepthwise(shape) <= kMostFilterBytes;
}

std::int64_t PackedConvBytesDepthwise(const ConvShape& shape) { return shape.R() * shape.S() * shape.C * 4; }

void PackConvWeightDepthwise(const PackConvWeightArgs& args) {
  ForType(args.to.dtype, [&]<typename T>() { Turn(args.weight.as<T>(), args.to.shape, static_cast<float*>(args.to.data)); });
}
void ConvForwardDepthwise(Stream& stream, const ConvForwardArgs& args) {
  ForType(args.in.dtype, [&]<typename T>() {
    if (args.out.dtype == args.in.dtype) return Forward<T, T>(stream, args);
    Forward<T, float>(stream, args);
  });
}
void ConvBackwardInputDepthwise(Stream& stream, const ConvBackwardInputArgs& args) {
  ForType(args.dout.dtype, [&]<typename T>() { BackwardInput<T>(stream, args); });
}
void ConvBackwardWeightDepthwise(Stream& stream, const ConvBackwardWeightArgs& args) {
  ForType(args.in.dtype, [&]<typename T>() { BackwardWeight<T>(stream, args); });
}

}  // namespace lycia::cpu
