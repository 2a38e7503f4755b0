#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/elementwise/elementwise.h"

namespace lycia::cpu {
namespace {

// By way of f32 where bf16 is on either side, else of f64.
template <typename From, typename To>
using Between = std::conditional_t<std::is_same_v<From, BFloat16> || std::is_same_v<To, BFloat16> || std::is_same_v<From, To>,
                                   Arithmetic<From>, double>;

// body(Lanes of V<A>) for all elements, on all threads; `bytes` of memory an element.
template <typename A, typename Body>
void ForEachElement(Stream& stream, std::int64_t count, std::int64_t bytes, const Body& body) {
  ForEachPart(stream, {.count = count, .unit = kElementUnit, .bytes_each = bytes}, [&](std::int64_t begin, std::int64_t end, int) {
    ForBestIsa([=](auto isa) LYCIA_INLINE {
      ForEachVector<Vector<A, decltype(isa)::value>>(end - begin, [&](auto lanes) LYCIA_INLINE {
        lanes.first += begin;
        body(lanes);
      });
    });
  });
}

template <typename From, typename To>
void ConvertElements(Stream& stream, const From* in, std::int64_t n, To* out) {
  if constexpr (sizeof(From) * sizeof(To) == sizeof(BFloat16) * sizeof(double)) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<To>(static_cast<float>(in[i]));
  } else {
    ForEachElement<Between<From, To>>(stream, n, sizeof(From) + sizeof(To),
                                      [=](auto lanes) LYCIA_INLINE { lanes.Put(out, lanes.Get(in)); });
  }
}

// Whether all bits are zero.
template <typename T>
bool AllZero(const T* y, std::int64_t count) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  Bits any = 0;
  for (std::int64_t i = 0; i < count; ++i) any |= std::bit_cast<Bits>(y[i]);
  return any == 0;
}

}  // namespace

void Add(Stream& stream, const AddArgs& args) {
  const std::int64_t n = args.out.elements();
  LYCIA_CHECK(args.a.elements() == n && args.b.elements() == n)
      << args.a.elements() << " + " << args.b.elements() << " -> " << n << " elements ";
  DispatchStored(args.out.dtype, [&]<typename T>() {
    const T *a = args.a.as<T>(), *b = args.b.as<T>();
    T* out = args.out.as<T>();
    ForEachElement<Arithmetic<T>>(stream, n, 3 * sizeof(T), [=](auto lanes) LYCIA_INLINE { lanes.Put(out, lanes.Get(a) + lanes.Get(b)); });
  });
}

void AddInPlace(Stream& stream, const AddInPlaceArgs& args) { cpu::Add(stream, {.a = args.x, .b = args.y, .out = args.x}); }

void AddAndClear(Stream& stream, const AddAndClearArgs& args) {
  LYCIA_CHECK_EQ(args.x.elements(), args.y.elements());
  DispatchFloat(args.x.dtype, [&]<typename T>() {
    constexpr std::int64_t kRun = 256 / sizeof(T);  // four cache lines
    T *x = args.x.as<T>(), *y = args.y.as<T>();
    ForEachPart(stream, {.count = args.x.elements(), .unit = kElementUnit, .bytes_each = sizeof(T)},
                [=](std::int64_t begin, std::int64_t end, int) {
                  for (std::int64_t i = begin; i < end; i += kRun) {
                    const std::int64_t count = std::min(kRun, end - i);
                    if (count == kRun ? AllZero(y + i, kRun) : AllZero(y + i, count)) continue;
                    for (std::int64_t k = i; k < i + count; ++k) x[k] += y[k];
                    std::fill_n(y + i, count, T(0));
                  }
                });
  });
}

void Scale(Stream& stream, const ScaleArgs& args) {
  DispatchStored(args.values.dtype, [&]<typename T>() {
    T* values = args.values.as<T>();
    const auto factor = static_cast<Arithmetic<T>>(args.factor);
    ForEachElement<Arithmetic<T>>(stream, args.values.elements(), 2 * sizeof(T),
                                  [=](auto lanes) LYCIA_INLINE { lanes.Put(values, lanes.Get(values) * factor); });
  });
}

void Fill(Stream&, const FillArgs& args) {
  DispatchStored(args.out.dtype, [&]<typename T>() {
    T* out = args.out.as<T>();
    for (std::int64_t i = 0; i < args.out.elements(); ++i) out[i] = static_cast<T>(static_cast<Arithmetic<T>>(args.value));
  });
}

void Convert(Stream& stream, const ConvertArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchStored(args.in.dtype, [&]<typename From>() {
    DispatchStored(args.out.dtype,
                   [&]<typename To>() { ConvertElements(stream, args.in.as<From>(), args.in.elements(), args.out.as<To>()); });
  });
}

void FillNormal(Stream&, const FillNormalArgs& args) {
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    T* out = args.out.as<T>();
    for (std::int64_t i = 0; i < args.out.elements(); ++i) {
      const double value = args.std * args.random.Normal(static_cast<std::uint64_t>(args.first_index + i));
      out[i] = static_cast<T>(static_cast<Arithmetic<T>>(value));
    }
  });
}

}  // namespace lycia::cpu
