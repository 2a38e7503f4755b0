#include <cmath>

#include "kernels/cpu/vector_loop.h"
#include "kernels/optimizer/adamw.h"

namespace lycia::cpu {
namespace {

template <typename V>
LYCIA_INLINE inline V Sqrt(const V& x) {
  V y;
  for (int i = 0; i < kLanes<V>; ++i) y[i] = std::sqrt(x[i]);
  return y;
}

}  // namespace

void AdamW(Stream&, const AdamWArgs& args) {
  const std::int64_t n = args.weight.elements();
  LYCIA_CHECK(args.gradient.elements() == n && args.m.elements() == n && args.v.elements() == n) << "AdamW on " << n << " elements ";
  DispatchFloat(args.weight.dtype, [&]<typename T>() {
    const StepScalars& step = *args.scalars;
    const T clip = static_cast<T>(step.clip_factor), decay = static_cast<T>(step.lr * args.weight_decay), eps = static_cast<T>(args.eps);
    const T beta1 = static_cast<T>(args.beta1), rest1 = static_cast<T>(1 - args.beta1);
    const T beta2 = static_cast<T>(args.beta2), rest2 = static_cast<T>(1 - args.beta2);
    // w -= lr (m / c1) / (sqrt(v / c2) + eps), the two corrections taken out of the loop's divisions.
    const T rate = static_cast<T>(step.lr / step.bias_correction1), inverse2 = static_cast<T>(1 / step.bias_correction2);
    T *weight = args.weight.as<T>(), *m = args.m.as<T>(), *v = args.v.as<T>();
    const T* gradient = args.gradient.as<T>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(n, [&](auto lanes) LYCIA_INLINE {
        const V g = lanes.Get(gradient) * clip;
        const V w = lanes.Get(weight);
        const V first = beta1 * lanes.Get(m) + rest1 * g;
        const V second = beta2 * lanes.Get(v) + rest2 * (g * g);
        lanes.Put(m, first);
        lanes.Put(v, second);
        lanes.Put(weight, (w - decay * w) - rate * first / (Sqrt<V>(second * inverse2) + eps));
      });
    });
  });
}

}  // namespace lycia::cpu
