// GELU on the CPU. With u the argument of the tanh, (1 + tanh(u)) / 2 is the logistic function s = 1 / (1 + e), e = exp(-2u): no difference
// of near numbers is taken, so that results are exact to a few units in the last place on the negative side too, where 1 + tanh(u) cancels.
#include "kernels/activation/gelu.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/cpu/vector_math.h"

namespace lycia::cpu {
namespace {

constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kCubic = 0.044715;

// exp(-2u) of x.
template <typename V>
LYCIA_INLINE inline V Decay(const V& x) {
  using T = Element<V>;
  return Exp(static_cast<T>(-2 * kSqrtTwoOverPi) * (x + static_cast<T>(kCubic) * x * x * x));
}

}  // namespace

void GeluForward(Stream&, const GeluForwardArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T* in = args.in.as<T>();
    T* out = args.out.as<T>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(args.in.elements(), [&](auto lanes) LYCIA_INLINE {
        const V x = lanes.Get(in);
        lanes.Put(out, x / (T(1) + Decay(x)));
      });
    });
  });
}

// d out / d in = s + in s (1 - s) 2u', with 1 - s = e s.
void GeluBackward(Stream&, const GeluBackwardArgs& args) {
  LYCIA_CHECK(args.in.elements() == args.dout.elements() && args.in.elements() == args.din.elements())
      << args.in.elements() << " elements ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>();
    T* din = args.din.as<T>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(args.in.elements(), [&](auto lanes) LYCIA_INLINE {
        const V x = lanes.Get(in), e = Decay(x), s = T(1) / (T(1) + e);
        const V twice_slope_of_u = static_cast<T>(2 * kSqrtTwoOverPi) * (T(1) + static_cast<T>(3 * kCubic) * x * x);
        lanes.Put(din, lanes.Get(dout) * (s + x * twice_slope_of_u * ((e * s) * s)));
      });
    });
  });
}

}  // namespace lycia::cpu
