#include "kernels/activation/gelu.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_logistic.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {

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
        ForEachVector<V>(end - begin, [&](auto lanes) LYCIA_INLINE { lanes.Put(out, GeluOf<V>(lanes.Get(in))); });
      });
    });
  });
}

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
        ForEachVector<V>(end - begin, [&](auto lanes) LYCIA_INLINE { lanes.Put(din, lanes.Get(dout) * GeluSlopeOf<V>(lanes.Get(in))); });
      });
    });
  });
}

}  // namespace lycia::cpu
