#include "kernels/activation/relu.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

template <typename A, typename Body>
void ForEachElement(Stream& stream, std::int64_t count, std::int64_t bytes, const Body& body) {
  ForEachPart(stream, {.count = count, .unit = kElementUnit, .bytes_each = bytes}, [&](std::int64_t begin, std::int64_t end, int) {
    ForBestIsa([=](auto isa) LYCIA_INLINE {
      ForEachVector<Vector<A, decltype(isa)::value>>(end - begin, [&](auto lanes) LYCIA_INLINE {
        lanes.first += begin;
        body(lanes, Vector<A, decltype(isa)::value>{});
      });
    });
  });
}

void CheckElements(const char* name, const ConstTensor& tensor, std::int64_t elements) {
  LYCIA_CHECK(tensor.elements() == elements) << "ReLU: " << name << " has " << tensor.elements() << " elements, not " << elements << " ";
}

}  // namespace

void ReluForward(Stream& stream, const ReluForwardArgs& args) {
  const std::int64_t n = args.in.elements();
  CheckElements("out", args.out, n);
  if (args.residual.data != nullptr) CheckElements("residual", args.residual, n);
  DispatchStored(args.in.dtype, [&]<typename T>() {
    const T *in = args.in.as<T>(), *residual = args.residual.data == nullptr ? nullptr : args.residual.as<T>();
    T* out = args.out.as<T>();
    ForEachElement<Arithmetic<T>>(stream, n, 3 * sizeof(T), [=](auto lanes, auto zero) LYCIA_INLINE {
      auto x = lanes.Get(in);
      if (residual != nullptr) x += lanes.Get(residual);
      lanes.Put(out, x < zero ? zero : x);
    });
  });
}

void ReluBackward(Stream& stream, const ReluBackwardArgs& args) {
  const std::int64_t n = args.out.elements();
  CheckElements("dout", args.dout, n);
  CheckElements("din", args.din, n);
  DispatchStored(args.out.dtype, [&]<typename T>() {
    const T *dout = args.dout.as<T>(), *out = args.out.as<T>();
    T* din = args.din.as<T>();
    const bool accumulate = args.accumulate;
    ForEachElement<Arithmetic<T>>(stream, n, 3 * sizeof(T), [=](auto lanes, auto zero) LYCIA_INLINE {
      // Spelled out in two: GCC 12 fails on the one expression.
      const auto kept = lanes.Get(out);
      auto d = lanes.Get(dout);
      d = kept <= zero ? zero : d;
      lanes.Put(din, accumulate ? lanes.Get(din) + d : d);
    });
  });
}

}  // namespace lycia::cpu
