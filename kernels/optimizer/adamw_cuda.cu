// AdamW on CUDA: every element is read and written once, a thread has one load of up to 16 bytes of each array. Bytes moved: reads weight,
// gradient, m, v and writes weight, m, v, so 7 elements (28 bytes in f32) an element, and 2 bytes more for a model's weight in bf16 or f16.
// Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it). The step's scalars are read from device memory, so a
// captured graph stays valid from step to step. One launch takes up to 48 segments, since a model has hundreds, most of them of a few
// thousand elements; a block finds its own by bisection.
#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "kernels/cuda/pack.cuh"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/optimizer_cuda_launch.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct AdamWSegment {
  T* weight;
  void* model_weight;  // BFloat16, or Float16 where `half`; or null
  const T* gradient;
  T *m, *v;
  std::int64_t n;
  T weight_decay;
  bool wide, half;

  template <int V>
  __device__ void StoreModel(std::int64_t begin, const Values<float, V>& values) const {
    if (half) {
      Store<V>(static_cast<Float16*>(model_weight) + begin, values);
    } else {
      Store<V>(static_cast<BFloat16*>(model_weight) + begin, values);
    }
  }
};
template <typename T>
struct AdamWBatch {
  AdamWSegment<T> segments[kSegmentsAtOnce];
  std::int32_t first_blocks[kSegmentsAtOnce];
  int count;
  T beta1, beta2, eps;
};
static_assert(sizeof(AdamWBatch<double>) <= 4000);

// Formula and order of operations of adamw.h, in T. The fused multiply-adds are written out, so that both load widths, and so any cut of a
// segment, give the same bits.
template <typename T>
struct AdamWElement {
  T beta1, beta2, eps, weight_decay;
  T lr, clip_factor, bias_correction1, bias_correction2;

  __device__ void Update(T& weight, T gradient, T& m, T& v) const {
    const T g = clip_factor * gradient;
    weight = fma(-lr * weight_decay, weight, weight);
    m = fma(beta1, m, (T{1} - beta1) * g);
    v = fma(beta2, v, (T{1} - beta2) * g * g);
    weight = fma(-lr, (m / bias_correction1) / (sqrt(v / bias_correction2) + eps), weight);
  }
};

// V elements from `begin` on; the last, incomplete pack is updated one by one.
template <int V, typename T>
__device__ void UpdatePack(const AdamWElement<T>& element, const AdamWSegment<T>& p, std::int64_t begin) {
  if (begin + V <= p.n) {
    using P = Pack<T, V>;
    P w = *reinterpret_cast<const P*>(p.weight + begin), m = *reinterpret_cast<const P*>(p.m + begin),
      v = *reinterpret_cast<const P*>(p.v + begin);
    const P g = *reinterpret_cast<const P*>(p.gradient + begin);
#pragma unroll
    for (int k = 0; k < V; ++k) element.Update(w.at[k], g.at[k], m.at[k], v.at[k]);
    *reinterpret_cast<P*>(p.weight + begin) = w;
    *reinterpret_cast<P*>(p.m + begin) = m;
    *reinterpret_cast<P*>(p.v + begin) = v;
    if (p.model_weight == nullptr) return;
    Values<float, V> model;
#pragma unroll
    for (int k = 0; k < V; ++k) model[k] = static_cast<float>(w.at[k]);
    p.template StoreModel<V>(begin, model);
  } else {
    for (std::int64_t i = begin; i < p.n; ++i) {
      element.Update(p.weight[i], p.gradient[i], p.m[i], p.v[i]);
      if (p.model_weight != nullptr) p.template StoreModel<1>(i, Values<float, 1>{{static_cast<float>(p.weight[i])}});
    }
  }
}

// Grid: the blocks of the segments, one after the other.
template <typename T>
__global__ void __launch_bounds__(kElementThreads) AdamWKernel(AdamWBatch<T> batch, const StepScalars* scalars) {
  const auto block = static_cast<std::int32_t>(blockIdx.x);
  const int s = SegmentOfBlock(batch.first_blocks, batch.count, block);
  const AdamWSegment<T>& segment = batch.segments[s];
  const AdamWElement<T> element{batch.beta1,
                                batch.beta2,
                                batch.eps,
                                segment.weight_decay,
                                static_cast<T>(scalars->lr),
                                static_cast<T>(scalars->clip_factor),
                                static_cast<T>(scalars->bias_correction1),
                                static_cast<T>(scalars->bias_correction2)};
  const std::int64_t thread = std::int64_t{block - batch.first_blocks[s]} * kElementThreads + threadIdx.x;
  if (segment.wide) {
    UpdatePack<kWidest<T>>(element, segment, thread * kWidest<T>);
  } else {
    UpdatePack<1>(element, segment, thread);
  }
}

bool SameBatch(const AdamWArgs& a, const AdamWArgs& b) {
  return a.weight.dtype == b.weight.dtype && a.beta1 == b.beta1 && a.beta2 == b.beta2 && a.eps == b.eps && a.scalars == b.scalars;
}

template <typename T>
void Launch(Stream& stream, const StreamTarget& target, std::span<const AdamWArgs> segments) {
  AdamWBatch<T> batch{};
  std::int64_t blocks = 0, elements = 0;
  for (const AdamWArgs& args : segments) {
    const std::int64_t n = args.weight.elements();
    LYCIA_CHECK(args.gradient.elements() == n && args.m.elements() == n && args.v.elements() == n) << "AdamW on " << n << " elements ";
    if (args.model_weight.data != nullptr) {
      LYCIA_CHECK_EQ(args.model_weight.elements(), n);
      LYCIA_CHECK(args.weight.dtype == DType::kF32)
          << "weights of " << Name(args.model_weight.dtype) << " from those of " << Name(args.weight.dtype) << " ";
    }
    if (n == 0) continue;
    AdamWSegment<T>& p = batch.segments[batch.count];
    p = {.weight = args.weight.as<T>(),
         .model_weight = args.model_weight.data,
         .gradient = args.gradient.as<T>(),
         .m = args.m.as<T>(),
         .v = args.v.as<T>(),
         .n = n,
         .weight_decay = static_cast<T>(args.weight_decay),
         .half = args.model_weight.dtype == DType::kF16};
    p.wide = ElementVector({p.weight, p.gradient, p.m, p.v}, sizeof(T)) == kWidest<T> && MapAllows(kWidest<T>, {{p.model_weight, 2}});
    batch.first_blocks[batch.count++] = static_cast<std::int32_t>(blocks);
    blocks += ElementBlocks(n, p.wide ? kWidest<T> : 1);
    elements += n;
  }
  if (batch.count == 0) return;
  batch.beta1 = static_cast<T>(segments[0].beta1);
  batch.beta2 = static_cast<T>(segments[0].beta2);
  batch.eps = static_cast<T>(segments[0].eps);
  if (blocks > INT32_MAX)
    return stream.Fail(InvalidArgument("AdamW on ", elements, " elements of ", batch.count, " segments: at most 2^31 blocks of ",
                                       kElementThreads, "; use more ranks"));
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(blocks)), dim3(kElementThreads));
  stream.Fail(LYCIA_CUDA_STATUS(cudaLaunchKernelEx(&config, AdamWKernel<T>, batch, segments[0].scalars), elements, " elements of ",
                                batch.count, " segments"));
}

}  // namespace

void AdamW(Stream& stream, std::span<const AdamWArgs> segments) {
  const StreamTarget target = TargetOf(stream);
  while (stream.ok() && !segments.empty()) {
    std::size_t count = 1;
    while (count < segments.size() && count < kSegmentsAtOnce && SameBatch(segments[0], segments[count])) ++count;
    DispatchFloat(segments[0].weight.dtype, [&]<typename T>() { Launch<T>(stream, target, segments.first(count)); });
    segments = segments.subspan(count);
  }
}

}  // namespace lycia::cuda
