// GELU, SwiGLU and ReLU on CUDA, one pack of up to 16 bytes of each operand a thread (kernels/cuda/map.cuh). Bytes moved, in elements:
// GELU 2 forward, 3 backward; SwiGLU 3 and 5 of [R, F]; ReLU 2 (3 with a residual) and 3 (4 accumulating). Bound by memory bandwidth: the
// accurate exponential and division are about 30 instructions an element, 40 % of what an H100 does meanwhile in bf16; share of it: not
// yet run (tests/gpu measures it).
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/activation/gelu.h"
#include "kernels/activation/gelu_cuda.cuh"
#include "kernels/activation/relu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/cuda/map.cuh"

namespace lycia::cuda {
namespace {

template <typename T>
struct GeluForwardMap {
  static constexpr int kVector = kWidest<T>;
  const T* in;
  T* out;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<Arithmetic<T>, V> x = Load<V>(in + i);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = GeluOf(x[k]);
    Store<V>(out + i, x);
  }
};

template <typename T>
struct GeluBackwardMap {
  static constexpr int kVector = kWidest<T>;
  const T *in, *dout;
  T* din;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<Arithmetic<T>, V> x = Load<V>(in + i);
    const Values<Arithmetic<T>, V> d = Load<V>(dout + i);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = d[k] * GeluSlopeOf(x[k]);
    Store<V>(din + i, x);
  }
};

// Rows of 2 F in, of F out.
template <typename T>
struct SwiGluForwardMap {
  static constexpr int kVector = kWidest<T>;
  const T* in;
  T* out;
  std::int64_t F;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    const Values<Arithmetic<T>, V> gate = Load<V>(in + row * 2 * F + col), up = Load<V>(in + row * 2 * F + F + col);
    Values<Arithmetic<T>, V> y;
#pragma unroll
    for (int k = 0; k < V; ++k) y[k] = gate[k] * Logistic(gate[k]) * up[k];
    Store<V>(out + row * F + col, y);
  }
};

// With s = logistic(gate): silu' = s + gate s (1 - s).
template <typename T>
struct SwiGluBackwardMap {
  static constexpr int kVector = kWidest<T>;
  const T *in, *dout;
  T* din;
  std::int64_t F;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    using A = Arithmetic<T>;
    Values<A, V> gate = Load<V>(in + row * 2 * F + col), up = Load<V>(in + row * 2 * F + F + col);
    const Values<A, V> d = Load<V>(dout + row * F + col);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const A s = Logistic(gate[k]), silu = gate[k] * s;
      gate[k] = d[k] * up[k] * (s + silu * (A(1) - s));
      up[k] = d[k] * silu;
    }
    Store<V>(din + row * 2 * F + col, gate);
    Store<V>(din + row * 2 * F + F + col, up);
  }
};

// A NaN stays one.
template <typename A>
__device__ A Relu(A x) {
  return x < A(0) ? A(0) : x;
}

template <typename T>
struct ReluForwardMap {
  static constexpr int kVector = kWidest<T>;
  const T *in, *residual;
  T* out;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    Values<Arithmetic<T>, V> x = Load<V>(in + i);
    if (residual != nullptr) {
      const Values<Arithmetic<T>, V> r = Load<V>(residual + i);
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] += r[k];
    }
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = Relu(x[k]);
    Store<V>(out + i, x);
  }
};

template <typename T>
struct ReluBackwardMap {
  static constexpr int kVector = kWidest<T>;
  const T *dout, *out;
  T* din;
  bool accumulate;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    using A = Arithmetic<T>;
    Values<A, V> d = Load<V>(dout + i);
    const Values<A, V> y = Load<V>(out + i);
#pragma unroll
    for (int k = 0; k < V; ++k) d[k] = y[k] <= A(0) ? A(0) : d[k];
    if (accumulate) {
      const Values<A, V> before = Load<V>(din + i);
#pragma unroll
      for (int k = 0; k < V; ++k) d[k] += before[k];
    }
    Store<V>(din + i, d);
  }
};

}  // namespace

void GeluForward(Stream& stream, const GeluForwardArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const GeluForwardMap<T> f{args.in.as<T>(), args.out.as<T>()};
    LaunchMap(stream, "GeluForward", 1, args.in.elements(), {Flat(f.in), Flat(f.out)}, f);
  });
}

void GeluBackward(Stream& stream, const GeluBackwardArgs& args) {
  LYCIA_CHECK(args.in.elements() == args.dout.elements() && args.in.elements() == args.din.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const GeluBackwardMap<T> f{args.in.as<T>(), args.dout.as<T>(), args.din.as<T>()};
    LaunchMap(stream, "GeluBackward", 1, args.in.elements(), {Flat(f.in), Flat(f.dout), Flat(f.din)}, f);
  });
}

void SwiGluForward(Stream& stream, const SwiGluForwardArgs& args) {
  const ConstMatrix out = AsMatrix(ConstTensor(args.out));
  LYCIA_CHECK_EQ(args.in.elements(), 2 * args.out.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const SwiGluForwardMap<T> f{args.in.as<T>(), args.out.as<T>(), out.cols};
    LaunchMap(stream, "SwiGluForward", out.rows, out.cols, {Rows(f.in, out.cols), Rows(f.out, out.cols)}, f);
  });
}

void SwiGluBackward(Stream& stream, const SwiGluBackwardArgs& args) {
  const ConstMatrix dout = AsMatrix(args.dout);
  LYCIA_CHECK(args.in.elements() == 2 * args.dout.elements() && args.din.elements() == args.in.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const SwiGluBackwardMap<T> f{args.in.as<T>(), args.dout.as<T>(), args.din.as<T>(), dout.cols};
    LaunchMap(stream, "SwiGluBackward", dout.rows, dout.cols, {Rows(f.in, dout.cols), Rows(f.dout, dout.cols), Rows(f.din, dout.cols)}, f);
  });
}

void ReluForward(Stream& stream, const ReluForwardArgs& args) {
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const ReluForwardMap<T> f{args.in.as<T>(), args.residual.data == nullptr ? nullptr : args.residual.as<T>(), args.out.as<T>()};
    LaunchMap(stream, "ReluForward", 1, args.in.elements(), {Flat(f.in), Flat(f.residual), Flat(f.out)}, f);
  });
}

void ReluBackward(Stream& stream, const ReluBackwardArgs& args) {
  LYCIA_CHECK(args.out.elements() == args.dout.elements() && args.out.elements() == args.din.elements());
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    const ReluBackwardMap<T> f{args.dout.as<T>(), args.out.as<T>(), args.din.as<T>(), args.accumulate};
    LaunchMap(stream, "ReluBackward", 1, args.out.elements(), {Flat(f.dout), Flat(f.out), Flat(f.din)}, f);
  });
}

}  // namespace lycia::cuda
