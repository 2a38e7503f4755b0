#include "kernels/cpu/vector_loop.h"
#include "kernels/elementwise/elementwise.h"

namespace lycia::cpu {

void Add(Stream&, const AddArgs& args) {
  const std::int64_t n = args.out.elements();
  LYCIA_CHECK(args.a.elements() == n && args.b.elements() == n)
      << args.a.elements() << " + " << args.b.elements() << " -> " << n << " elements ";
  DispatchFloat(args.out.dtype, [&]<typename T>() {
    const T *a = args.a.as<T>(), *b = args.b.as<T>();
    T* out = args.out.as<T>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      ForEachVector<Vector<T, decltype(isa)::value>>(n, [&](auto lanes) LYCIA_INLINE { lanes.Put(out, lanes.Get(a) + lanes.Get(b)); });
    });
  });
}

void AddInPlace(Stream& stream, const AddInPlaceArgs& args) { cpu::Add(stream, {.a = args.x, .b = args.y, .out = args.x}); }

void Scale(Stream&, const ScaleArgs& args) {
  DispatchFloat(args.values.dtype, [&]<typename T>() {
    T* values = args.values.as<T>();
    const T factor = static_cast<T>(args.factor);
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(args.values.elements(), [&](auto lanes) LYCIA_INLINE { lanes.Put(values, lanes.Get(values) * factor); });
    });
  });
}

void Fill(Stream&, const FillArgs& args) {
  DispatchFloat(args.out.dtype, [&]<typename T>() {
    T* out = args.out.as<T>();
    for (std::int64_t i = 0; i < args.out.elements(); ++i) out[i] = static_cast<T>(args.value);
  });
}

void FillNormal(Stream&, const FillNormalArgs& args) {
  DispatchFloat(args.out.dtype, [&]<typename T>() {
    T* out = args.out.as<T>();
    for (std::int64_t i = 0; i < args.out.elements(); ++i) {
      out[i] = static_cast<T>(args.std * args.random.Normal(static_cast<std::uint64_t>(args.first_index + i)));
    }
  });
}

}  // namespace lycia::cpu
