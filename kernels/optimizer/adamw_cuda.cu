// AdamW on CUDA: every element is read and written once, a thread has one load of up to 16 bytes of each array. Bytes moved: reads weight,
// gradient, m, v and writes weight, m, v, so 7 elements (28 bytes in f32) an element. Bound by memory bandwidth; share of it: not yet run
// (tests/gpu measures it). The step's scalars are read from device memory, so a captured graph stays valid from step to step.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/optimizer_cuda_launch.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct AdamWPointers {
  T* weight;
  const T* gradient;
  T *m, *v;
};
template <typename T>
struct AdamWConstants {
  T beta1, beta2, eps, weight_decay;
};

// Formula and order of operations of adamw.h, in T. The fused multiply-adds are written out, so that both load widths, and so any cut of a
// segment, give the same bits.
template <typename T>
struct AdamWElement {
  AdamWConstants<T> c;
  T lr, clip_factor, bias_correction1, bias_correction2;

  __device__ void Update(T& weight, T gradient, T& m, T& v) const {
    const T g = clip_factor * gradient;
    weight = fma(-lr * c.weight_decay, weight, weight);
    m = fma(c.beta1, m, (T{1} - c.beta1) * g);
    v = fma(c.beta2, v, (T{1} - c.beta2) * g * g);
    weight = fma(-lr, (m / bias_correction1) / (sqrt(v / bias_correction2) + c.eps), weight);
  }
};

template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};

// Grid: one thread for each V elements; the last, incomplete pack is updated one by one.
template <typename T, int V>
__global__ void __launch_bounds__(kElementThreads)
    AdamWKernel(AdamWPointers<T> p, AdamWConstants<T> constants, const StepScalars* scalars, std::int64_t n) {
  const AdamWElement<T> element{constants, static_cast<T>(scalars->lr), static_cast<T>(scalars->clip_factor),
                                static_cast<T>(scalars->bias_correction1), static_cast<T>(scalars->bias_correction2)};
  const std::int64_t begin = (std::int64_t{blockIdx.x} * kElementThreads + threadIdx.x) * V;
  if (begin + V <= n) {
    using P = Pack<T, V>;
    P w = *reinterpret_cast<const P*>(p.weight + begin), m = *reinterpret_cast<const P*>(p.m + begin),
      v = *reinterpret_cast<const P*>(p.v + begin);
    const P g = *reinterpret_cast<const P*>(p.gradient + begin);
#pragma unroll
    for (int k = 0; k < V; ++k) element.Update(w.at[k], g.at[k], m.at[k], v.at[k]);
    *reinterpret_cast<P*>(p.weight + begin) = w;
    *reinterpret_cast<P*>(p.m + begin) = m;
    *reinterpret_cast<P*>(p.v + begin) = v;
  } else {
    for (std::int64_t i = begin; i < n; ++i) element.Update(p.weight[i], p.gradient[i], p.m[i], p.v[i]);
  }
}

template <typename T, int V>
cudaError_t Launch(const StreamTarget& target, const AdamWPointers<T>& p, const AdamWConstants<T>& constants, const StepScalars* scalars,
                   std::int64_t n) {
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(ElementBlocks(n, V))), dim3(kElementThreads));
  return cudaLaunchKernelEx(&config, AdamWKernel<T, V>, p, constants, scalars, n);
}

}  // namespace

void AdamW(Stream& stream, const AdamWArgs& args) {
  const std::int64_t n = args.weight.elements();
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || n == 0) return;
  DispatchFloat(args.weight.dtype, [&]<typename T>() {
    const AdamWPointers<T> p{args.weight.as<T>(), args.gradient.as<T>(), args.m.as<T>(), args.v.as<T>()};
    const AdamWConstants<T> constants{static_cast<T>(args.beta1), static_cast<T>(args.beta2), static_cast<T>(args.eps),
                                      static_cast<T>(args.weight_decay)};
    constexpr int kWide = kElementVectorBytes / static_cast<int>(sizeof(T));
    const bool wide = ElementVector({p.weight, p.gradient, p.m, p.v}, sizeof(T)) == kWide;
    const cudaError_t error =
        wide ? Launch<T, kWide>(target, p, constants, args.scalars, n) : Launch<T, 1>(target, p, constants, args.scalars, n);
    if (error != cudaSuccess)
      stream.Fail(ToStatus(error, "AdamW", __FILE__, __LINE__, absl::StrCat(n, " elements of ", sizeof(T), " bytes")));
  });
}

}  // namespace lycia::cuda
