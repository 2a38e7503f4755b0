// GELU on the CPU. With u the argument of the tanh, (1 + tanh(u)) / 2 is the logistic function s = 1 / (1 + e), e = exp(-2u): no difference
// of near numbers is taken, so that results are exact to a few units in the last place on the negative side too, where 1 + tanh(u) cancels.
#include "kernels/activation/gelu.h"
#include "kernels/cpu/parallel.h"
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

void GeluForward(Stream& stream, const GeluForwardArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const Work work{.count = args.in.elements(), .unit = kElementUnit, .bytes_each = 2 * sizeof(T)};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      const T* in = args.in.as<T>() + begin;
      T* out = args.out.as<T>() + begin;
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        ForEachVector<V>(end - begin, [&](auto lanes) LYCIA_INLINE {
          const V x = lanes.Get(in);
          lanes.Put(out, x / (A(1) + Decay(x)));
        });
      });
    });
  });
}

// d out / d in = s + in s (1 - s) 2u', with 1 - s = e s.
void GeluBackward(Stream& stream, const GeluBackwardArgs& args) {
  LYCIA_CHECK(args.in.elements() == args.dout.elements() && args.in.elements() == args.din.elements())
      << args.in.elements() << " elements ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const Work work{.count = args.in.elements(), .unit = kElementUnit, .bytes_each = 3 * sizeof(T)};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      const T *in = args.in.as<T>() + begin, *dout = args.dout.as<T>() + begin;
      T* din = args.din.as<T>() + begin;
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        ForEachVector<V>(end - begin, [&](auto lanes) LYCIA_INLINE {
          const V x = lanes.Get(in), e = Decay(x), s = A(1) / (A(1) + e);
          const V twice_slope_of_u = static_cast<A>(2 * kSqrtTwoOverPi) * (A(1) + static_cast<A>(3 * kCubic) * x * x);
          lanes.Put(din, lanes.Get(dout) * (s + x * twice_slope_of_u * ((e * s) * s)));
        });
      });
    });
  });
}

}  // namespace lycia::cpu
