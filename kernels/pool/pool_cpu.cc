// Pools on the CPU: an output pixel at a time forward, an input pixel at a time backward, so that no two threads write one element; vectors
// of channels inside.
#include "kernels/conv/window.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/pool/pool.h"

namespace lycia::cpu {
namespace {

void CheckTensors(const PoolShape& s, bool maximum, const ConstTensor& in, const ConstTensor& out) {
  const Status status = CheckPoolShape(s, maximum);
  LYCIA_CHECK(status.ok()) << status.message();
  LYCIA_CHECK_EQ(in.elements(), s.N * s.height.in * s.width.in * s.C);
  LYCIA_CHECK_EQ(out.elements(), s.N * s.P() * s.Q() * s.C);
  LYCIA_CHECK(in.dtype == out.dtype) << "image is " << Name(in.dtype) << ", pooled " << Name(out.dtype) << " ";
}

constexpr int kMostPlaces = 256;  // CheckPoolShape

// What lies in a window, or which windows see a pixel: where it stands (in channels' runs), the place in the window, a weight.
template <typename A>
struct Places {
  int count = 0;
  std::int64_t at[kMostPlaces];
  int place[kMostPlaces];
  A weight[kMostPlaces];
};

// Windows over input row h, column w.
template <typename A, typename Weight>
void FindWindows(const PoolShape& s, std::int64_t n, std::int64_t h, std::int64_t w, const Weight& weight, Places<A>& found) {
  found.count = 0;
  const ConvPhase rows = PhaseOf(s.height, h % s.height.stride), cols = PhaseOf(s.width, w % s.width.stride);
  for (std::int64_t a = 0; a < rows.taps; ++a) {
    const std::int64_t p = h / s.height.stride + rows.first_out + a * rows.out_step;
    if (p < 0 || p >= s.P()) continue;
    for (std::int64_t b = 0; b < cols.taps; ++b) {
      const std::int64_t q = w / s.width.stride + cols.first_out + b * cols.out_step;
      if (q < 0 || q >= s.Q()) continue;
      found.at[found.count] = ((n * s.P() + p) * s.Q() + q) * s.C;
      found.place[found.count] =
          static_cast<int>((rows.first_tap - a * rows.tap_step) * s.width.filter + cols.first_tap - b * cols.tap_step);
      found.weight[found.count] = weight(p, q);
      ++found.count;
    }
  }
}

template <typename V>
LYCIA_INLINE inline MaskOf<V> LoadPlaces(const std::uint8_t* from, std::int64_t count) {
  SameLanes<V, std::uint8_t> codes{};
  if (count == kLanes<V>) {
    std::memcpy(&codes, from, sizeof codes);
  } else {
    for (int i = 0; i < count; ++i) codes[i] = from[i];
  }
  return __builtin_convertvector(codes, MaskOf<V>);
}
template <typename V>
LYCIA_INLINE inline void StorePlaces(std::uint8_t* to, const MaskOf<V>& places, std::int64_t count) {
  const auto codes = __builtin_convertvector(places, SameLanes<V, std::uint8_t>);
  if (count == kLanes<V>) {
    std::memcpy(to, &codes, sizeof codes);
  } else {
    for (int i = 0; i < count; ++i) to[i] = codes[i];
  }
}

// body(n, row, col) of `rows` x `cols` pixels of every image.
template <typename Body>
void ForEachPixel(Stream& stream, std::int64_t images, std::int64_t rows, std::int64_t cols, std::int64_t bytes, const Body& body) {
  ForEachPart(stream, {.count = images * rows, .bytes_each = cols * bytes}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t col = 0; col < cols; ++col) body(i / rows, i % rows, col);
    }
  });
}

// din = or += the sum over the windows found of term(lanes, window).
template <typename A, typename T, typename Term>
void AddWindows(const Places<A>& found, T* din, std::int64_t C, bool accumulate, const Term& term) {
  const Places<A>* const all = &found;
  ForBestIsa([=](auto isa) LYCIA_INLINE {
    using V = Vector<A, decltype(isa)::value>;
    ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
      V sum = accumulate ? lanes.Get(din) : V{};
      for (int i = 0; i < all->count; ++i) sum += term(lanes, *all, i, V{});
      lanes.Put(din, sum);
    });
  });
}

}  // namespace

void MaxPoolForward(Stream& stream, const MaxPoolForwardArgs& args) {
  const PoolShape& s = args.shape;
  CheckTensors(s, true, args.in, args.out);
  LYCIA_CHECK(args.winner.data == nullptr || args.winner.elements() == args.out.elements());
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* in = args.in.as<T>();
    T* out = args.out.as<T>();
    auto* winner = args.winner.data == nullptr ? nullptr : args.winner.as<std::uint8_t>();
    const std::int64_t C = s.C, bytes = s.height.filter * s.width.filter * C * static_cast<std::int64_t>(sizeof(T));
    ForEachPixel(stream, s.N, s.P(), s.Q(), bytes, [&](std::int64_t n, std::int64_t p, std::int64_t q) {
      Places<A> window;
      const TapRange rows = InsideTaps(s.height, p), cols = InsideTaps(s.width, q);
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        for (std::int64_t t = cols.begin; t < cols.end; ++t) {
          window.at[window.count] = ((n * s.height.in + s.height.InputOf(p, r)) * s.width.in + s.width.InputOf(q, t)) * C;
          window.place[window.count++] = static_cast<int>(r * s.width.filter + t);
        }
      }
      const Places<A>* const all = &window;
      const std::int64_t to = ((n * s.P() + p) * s.Q() + q) * C;
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
          V best = lanes.Get(in + all->at[0]);
          MaskOf<V> place = MaskOf<V>{} + all->place[0];
          for (int i = 1; i < all->count; ++i) {
            const V x = lanes.Get(in + all->at[i]);
            const MaskOf<V> wins = (x > best) | ((x != x) & (best == best));
            best = wins ? x : best;
            place = wins ? MaskOf<V>{} + all->place[i] : place;
          }
          lanes.Put(out + to, best);
          if (winner != nullptr) StorePlaces<V>(winner + to + lanes.first, place, lanes.count);
        });
      });
    });
  });
}

void MaxPoolBackward(Stream& stream, const MaxPoolBackwardArgs& args) {
  const PoolShape& s = args.shape;
  CheckTensors(s, true, args.din, args.dout);
  LYCIA_CHECK_EQ(args.winner.elements(), args.dout.elements());
  DispatchStored(args.din.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* dout = args.dout.as<T>();
    const auto* winner = args.winner.as<std::uint8_t>();
    T* din = args.din.as<T>();
    const std::int64_t C = s.C, bytes = 4 * C * static_cast<std::int64_t>(sizeof(T));
    ForEachPixel(stream, s.N, s.height.in, s.width.in, bytes, [&](std::int64_t n, std::int64_t h, std::int64_t w) {
      Places<A> windows;
      FindWindows(
          s, n, h, w, [](std::int64_t, std::int64_t) { return A(1); }, windows);
      AddWindows(windows, din + ((n * s.height.in + h) * s.width.in + w) * C, C, args.accumulate,
                 [=](auto lanes, const Places<A>& all, int i, auto zero) LYCIA_INLINE {
                   using V = decltype(zero);
                   const MaskOf<V> places = LoadPlaces<V>(winner + all.at[i] + lanes.first, lanes.count);
                   return places == all.place[i] ? lanes.Get(dout + all.at[i]) : zero;
                 });
    });
  });
}

void AveragePoolForward(Stream& stream, const AveragePoolForwardArgs& args) {
  const PoolShape& s = args.shape;
  CheckTensors(s, false, args.in, args.out);
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* in = args.in.as<T>();
    T* out = args.out.as<T>();
    const std::int64_t C = s.C, bytes = s.height.filter * s.width.filter * C * static_cast<std::int64_t>(sizeof(T));
    ForEachPixel(stream, s.N, s.P(), s.Q(), bytes, [&](std::int64_t n, std::int64_t p, std::int64_t q) {
      const TapRange rows = InsideTaps(s.height, p), cols = InsideTaps(s.width, q);
      const T* first = in + ((n * s.height.in + s.height.InputOf(p, rows.begin)) * s.width.in + s.width.InputOf(q, cols.begin)) * C;
      T* to = out + ((n * s.P() + p) * s.Q() + q) * C;
      const std::int64_t down = s.height.dilation * s.width.in * C, right = s.width.dilation * C;
      const A count = static_cast<A>(args.count_padding ? s.height.filter * s.width.filter : rows.size() * cols.size());
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
          V sum{};
          for (std::int64_t r = 0; r < rows.size(); ++r) {
            for (std::int64_t t = 0; t < cols.size(); ++t) sum += lanes.Get(first + r * down + t * right);
          }
          lanes.Put(to, sum / count);
        });
      });
    });
  });
}

void AveragePoolBackward(Stream& stream, const AveragePoolBackwardArgs& args) {
  const PoolShape& s = args.shape;
  CheckTensors(s, false, args.din, args.dout);
  DispatchStored(args.din.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* dout = args.dout.as<T>();
    T* din = args.din.as<T>();
    const std::int64_t C = s.C, bytes = 4 * C * static_cast<std::int64_t>(sizeof(T));
    const auto weight = [&](std::int64_t p, std::int64_t q) {
      const std::int64_t inside = InsideTaps(s.height, p).size() * InsideTaps(s.width, q).size();
      return A(1) / static_cast<A>(args.count_padding ? s.height.filter * s.width.filter : inside);
    };
    ForEachPixel(stream, s.N, s.height.in, s.width.in, bytes, [&](std::int64_t n, std::int64_t h, std::int64_t w) {
      Places<A> windows;
      FindWindows(s, n, h, w, weight, windows);
      AddWindows(windows, din + ((n * s.height.in + h) * s.width.in + w) * C, C, args.accumulate,
                 [=](auto lanes, const Places<A>& all, int i, auto zero) LYCIA_INLINE {
                   using V = decltype(zero);
                   return V(lanes.Get(dout + all.at[i]) * all.weight[i]);
                 });
    });
  });
}

}  // namespace lycia::cpu
