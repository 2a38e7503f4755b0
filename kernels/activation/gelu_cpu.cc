#include "kernels/activation/gelu.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/cpu/vector_math.h"

namespace lycia::cpu {
namespace {

constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kCubic = 0.044715;

}  // namespace

void GeluForward(Stream&, const GeluForwardArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T* in = args.in.as<T>();
    T* out = args.out.as<T>();
    constexpr T a = static_cast<T>(kSqrtTwoOverPi), c = static_cast<T>(kCubic);
    ForBestIsa([&]() LYCIA_INLINE {
      ForEachVector<T>(args.in.elements(), [&](auto lanes) LYCIA_INLINE {
        const Vector<T> x = lanes.Get(in);
        lanes.Put(out, T(0.5) * x * (T(1) + Tanh(a * (x + c * x * x * x))));
      });
    });
  });
}

// d out / d in = (1 + t) / 2 + in / 2 (1 - t²) sqrt(2/pi) (1 + 3 * 0.044715 in²), t the tanh.
void GeluBackward(Stream&, const GeluBackwardArgs& args) {
  LYCIA_CHECK(args.in.elements() == args.dout.elements() && args.in.elements() == args.din.elements()) << args.in.elements() << " elements ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>();
    T* din = args.din.as<T>();
    constexpr T a = static_cast<T>(kSqrtTwoOverPi), c = static_cast<T>(kCubic);
    ForBestIsa([&]() LYCIA_INLINE {
      ForEachVector<T>(args.in.elements(), [&](auto lanes) LYCIA_INLINE {
        const Vector<T> x = lanes.Get(in);
        const Vector<T> t = Tanh(a * (x + c * x * x * x));
        const Vector<T> slope = T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * (a * (T(1) + T(3) * c * x * x));
        lanes.Put(din, lanes.Get(dout) * slope);
      });
    });
  });
}

}  // namespace lycia::cpu
