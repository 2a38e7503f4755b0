// Sums, scaling, filling, converting and dropout on CUDA, one pack of up to 16 bytes of each operand a thread (kernels/cuda/map.cuh). Bytes
// moved, in elements: Add 3, AddInPlace 3, Scale 2, Fill 1, Convert one of each type, dropout 2, with a residual 3. Bound by memory
// bandwidth: one Philox block of ten rounds serves four elements, about 20 instructions each; share of it: not yet run (tests/gpu
// measures it).
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <type_traits>

#include "kernels/cuda/map.cuh"
#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct AddMap {
  static constexpr int kVector = kWidest<T>;
  const T *a, *b;
  T* out;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<Arithmetic<T>, V> x = Load<V>(a + i);
    const Values<Arithmetic<T>, V> y = Load<V>(b + i);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] += y[k];
    Store<V>(out + i, x);
  }
};

template <typename T>
struct ScaleMap {
  static constexpr int kVector = kWidest<T>;
  T* values;
  Arithmetic<T> factor;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<Arithmetic<T>, V> x = Load<V>(values + i);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] *= factor;
    Store<V>(values + i, x);
  }
};

template <typename T>
struct FillMap {
  static constexpr int kVector = kWidest<T>;
  T* out;
  Arithmetic<T> value;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<Arithmetic<T>, V> x;
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = value;
    Store<V>(out + i, x);
  }
};

// By way of f32 where bf16 is on either side.
template <typename From, typename To>
struct ConvertMap {
  static constexpr int kVector = kWidest<std::conditional_t<(sizeof(From) > sizeof(To)), From, To>>;
  const From* in;
  To* out;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    const Values<Arithmetic<From>, V> x = Load<V>(in + i);
    Values<Arithmetic<To>, V> y;
#pragma unroll
    for (int k = 0; k < V; ++k) y[k] = static_cast<Arithmetic<To>>(x[k]);
    Store<V>(out + i, y);
  }
};

// RandomStream::Normal, by Box-Muller in f64.
template <typename T>
struct FillNormalMap {
  static constexpr int kVector = 1;
  T* out;
  RandomStream random;
  double std;
  std::int64_t first_index;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    const auto index = static_cast<std::uint64_t>(first_index + i);
    const double radius = sqrt(-2.0 * log(random.Uniform(2 * index)));
    const double normal = radius * cos(2.0 * std::numbers::pi * random.Uniform(2 * index + 1));
    out[i] = Round<T>(static_cast<Arithmetic<T>>(std * normal));
  }
};

// out = (residual +) in * keep, or (residual +) 0 where the random bits are below the threshold.
template <typename T>
struct DropoutMap {
  static constexpr int kVector = kWidest<T>;
  const T *in, *residual;
  T* out;
  RandomStream random;
  std::uint64_t threshold;
  Arithmetic<T> keep;
  std::int64_t first_index, row_stride, cols;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    const std::int64_t at = row * cols + col;
    const auto first = static_cast<std::uint64_t>(first_index + row * row_stride + col);
    Values<Arithmetic<T>, V> x = Load<V>(in + at);
    Philox4 bits{};
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const std::uint64_t index = first + static_cast<std::uint64_t>(k);
      if (k == 0 || (index & 3) == 0) bits = Philox(random.key, index >> 2, random.step);
      const std::uint32_t word = (index & 2) == 0 ? ((index & 1) == 0 ? bits.x0 : bits.x1) : ((index & 1) == 0 ? bits.x2 : bits.x3);
      x[k] = word >= threshold ? x[k] * keep : Arithmetic<T>(0);
    }
    if (residual != nullptr) {
      const Values<Arithmetic<T>, V> r = Load<V>(residual + at);
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] += r[k];
    }
    Store<V>(out + at, x);
  }
};

void RunDropout(Stream& stream, const char* kernel, const DropoutMask& mask, const ConstTensor& in, const ConstTensor& residual,
                const Tensor& out) {
  const ConstMatrix matrix = AsMatrix(in);
  LYCIA_CHECK(mask.rate >= 0 && mask.rate < 1) << "dropout rate " << mask.rate << " ";
  LYCIA_CHECK_EQ(in.elements(), out.elements());
  if (residual.data != nullptr) LYCIA_CHECK_EQ(residual.elements(), out.elements());
  DispatchAnyStored(in.dtype, [&]<typename T>() {
    const DropoutMap<T> f{.in = in.as<T>(),
                          .residual = residual.data == nullptr ? nullptr : residual.as<T>(),
                          .out = out.as<T>(),
                          .random = mask.random,
                          .threshold = DropoutThreshold(mask.rate),
                          .keep = static_cast<Arithmetic<T>>(1 / (1 - mask.rate)),
                          .first_index = mask.first_index,
                          .row_stride = mask.row_stride == 0 ? matrix.cols : mask.row_stride,
                          .cols = matrix.cols};
    LaunchMap(stream, kernel, matrix.rows, matrix.cols, {Rows(f.in, matrix.cols), Rows(f.residual, matrix.cols), Rows(f.out, matrix.cols)},
              f);
  });
}

}  // namespace

void Add(Stream& stream, const AddArgs& args) {
  const std::int64_t n = args.out.elements();
  LYCIA_CHECK(args.a.elements() == n && args.b.elements() == n)
      << args.a.elements() << " + " << args.b.elements() << " -> " << n << " elements ";
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    const AddMap<T> f{args.a.as<T>(), args.b.as<T>(), args.out.as<T>()};
    LaunchMap(stream, "Add", 1, n, {Flat(f.a), Flat(f.b), Flat(f.out)}, f);
  });
}

void AddInPlace(Stream& stream, const AddInPlaceArgs& args) { cuda::Add(stream, {.a = args.x, .b = args.y, .out = args.x}); }

void Scale(Stream& stream, const ScaleArgs& args) {
  DispatchAnyStored(args.values.dtype, [&]<typename T>() {
    const ScaleMap<T> f{args.values.as<T>(), static_cast<Arithmetic<T>>(args.factor)};
    LaunchMap(stream, "Scale", 1, args.values.elements(), {Flat(f.values)}, f);
  });
}

void Fill(Stream& stream, const FillArgs& args) {
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    const FillMap<T> f{args.out.as<T>(), static_cast<Arithmetic<T>>(args.value)};
    LaunchMap(stream, "Fill", 1, args.out.elements(), {Flat(f.out)}, f);
  });
}

void Convert(Stream& stream, const ConvertArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename From>() {
    DispatchAnyStored(args.out.dtype, [&]<typename To>() {
      const ConvertMap<From, To> f{args.in.as<From>(), args.out.as<To>()};
      LaunchMap(stream, "Convert", 1, args.in.elements(), {Flat(f.in), Flat(f.out)}, f);
    });
  });
}

void FillNormal(Stream& stream, const FillNormalArgs& args) {
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    const FillNormalMap<T> f{args.out.as<T>(), args.random, args.std, args.first_index};
    LaunchMap(stream, "FillNormal", 1, args.out.elements(), {Flat(f.out)}, f);
  });
}

void DropoutForward(Stream& stream, const DropoutForwardArgs& args) {
  RunDropout(stream, "DropoutForward", args.mask, args.in, args.residual, args.out);
}

void DropoutBackward(Stream& stream, const DropoutBackwardArgs& args) {
  RunDropout(stream, "DropoutBackward", args.mask, args.dout, {}, args.din);
}

}  // namespace lycia::cuda
