// SwiGLU on the CPU, a row at a time.
#include "kernels/activation/swiglu.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_logistic.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {

void SwiGluForward(Stream& stream, const SwiGluForwardArgs& args) {
  const Matrix matrix = AsMatrix(args.out);
  const std::int64_t F = matrix.cols;
  LYCIA_CHECK(args.in.elements() == 2 * args.out.elements() && args.in.shape.dim(-1) == 2 * F) << "SwiGLU of " << F << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    const T* in = args.in.as<T>();
    T* out = args.out.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = 3 * F * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using A = Arithmetic<T>;
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T *gates = in + r * 2 * F, *ups = gates + F;
          ForEachVector<V>(F, [&](auto lanes) LYCIA_INLINE {
            const V gate = lanes.Get(gates);
            lanes.Put(out + r * F, TimesLogistic<V>(gate, gate) * lanes.Get(ups));
          });
        }
      });
    });
  });
}

void SwiGluBackward(Stream& stream, const SwiGluBackwardArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.dout);
  const std::int64_t F = matrix.cols;
  LYCIA_CHECK(args.in.elements() == 2 * args.dout.elements() && args.in.shape.dim(-1) == 2 * F && args.din.elements() == args.in.elements())
      << "SwiGLU of " << F << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>();
    T* din = args.din.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = 5 * F * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using A = Arithmetic<T>;
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T *gates = in + r * 2 * F, *ups = gates + F;
          T *dgates = din + r * 2 * F, *dups = dgates + F;
          ForEachVector<V>(F, [&](auto lanes) LYCIA_INLINE {
            const V gate = lanes.Get(gates), up = lanes.Get(ups), d = lanes.Get(dout + r * F);
            const Logistic<V> s = LogisticOf<V>(gate);
            lanes.Put(dgates, d * up * (s.value + gate * s.slope));
            lanes.Put(dups, d * (gate * s.value));
          });
        }
      });
    });
  });
}

}  // namespace lycia::cpu
