// AdamW on the CPU. In f32, 28 bytes an element are read and written once (30 with a bf16 copy): memory is the limit.
#include <cmath>

#include "kernels/cpu/parallel.h"
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

// Elements [begin, end) of the segment; model_weight may be null. Two instances instead of a test in the loop.
template <bool kRounded, typename T>
void Update(const AdamWArgs& args, std::int64_t begin, std::int64_t end, BFloat16* model_weight) {
  const StepScalars& step = *args.scalars;
  const T clip = static_cast<T>(step.clip_factor), decay = static_cast<T>(step.lr * args.weight_decay), eps = static_cast<T>(args.eps);
  const T beta1 = static_cast<T>(args.beta1), rest1 = static_cast<T>(1 - args.beta1);
  const T beta2 = static_cast<T>(args.beta2), rest2 = static_cast<T>(1 - args.beta2);
  // w -= lr (m / c1) / (sqrt(v / c2) + eps), the two corrections taken out of the loop's divisions.
  const T rate = static_cast<T>(step.lr / step.bias_correction1), inverse2 = static_cast<T>(1 / step.bias_correction2);
  T *weight = args.weight.as<T>() + begin, *m = args.m.as<T>() + begin, *v = args.v.as<T>() + begin;
  const T* gradient = args.gradient.as<T>() + begin;
  ForBestIsa([=](auto isa) LYCIA_INLINE {
    using V = Vector<T, decltype(isa)::value>;
    ForEachVector<V>(end - begin, [&](auto lanes) LYCIA_INLINE {
      const V g = lanes.Get(gradient) * clip;
      const V w = lanes.Get(weight);
      const V first = beta1 * lanes.Get(m) + rest1 * g;
      const V second = beta2 * lanes.Get(v) + rest2 * (g * g);
      const V updated = (w - decay * w) - rate * first / (Sqrt<V>(second * inverse2) + eps);
      lanes.Put(m, first);
      lanes.Put(v, second);
      lanes.Put(weight, updated);
      if constexpr (kRounded) lanes.Put(model_weight, updated);
    });
  });
}

}  // namespace

void AdamW(Stream& stream, const AdamWArgs& args) {
  const std::int64_t n = args.weight.elements();
  LYCIA_CHECK(args.gradient.elements() == n && args.m.elements() == n && args.v.elements() == n) << "AdamW on " << n << " elements ";
  if (args.model_weight.data != nullptr) {
    LYCIA_CHECK_EQ(args.model_weight.elements(), n);
    LYCIA_CHECK(args.weight.dtype == DType::kF32) << "weights of bf16 from those of " << Name(args.weight.dtype) << " ";
  }
  const Work work{.count = n, .unit = kElementUnit, .bytes_each = 7 * SizeOf(args.weight.dtype)};
  ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
    if (args.model_weight.data != nullptr) return Update<true, float>(args, begin, end, args.model_weight.as<BFloat16>() + begin);
    DispatchFloat(args.weight.dtype, [&]<typename T>() { Update<false, T>(args, begin, end, nullptr); });
  });
}

}  // namespace lycia::cpu
