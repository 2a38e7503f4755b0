// The backward's main kernel for Hopper; the plan is in attention_backward_cuda.cu.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_HOPPER_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_HOPPER_CUH_

#include "kernels/attention/attention_backward_compute.cuh"
#include "kernels/attention/attention_backward_load.cuh"

namespace lycia::cuda {

template <int kD, int kQ, int kStages>
__global__ void __launch_bounds__(kBackwardThreads, 1) BackwardKernel(const __grid_constant__ BackwardParameters p) {
  using Block = BackwardBlock<kD, kQ, kStages>;
  extern __shared__ __align__(kSwizzleAtomBytes) char shared[];
  auto& barriers = *reinterpret_cast<typename Block::Barriers*>(shared + Block::kTiling.barriers_at());
  if (threadIdx.x == 0) barriers.Init();
  __syncthreads();
  const Block block{p, shared, barriers};
  const int group = threadIdx.x / kWarpGroupThreads;
  if (group == 2) {
    ReleaseRegisters<ProducerRegisters(2)>();
    const int warp = threadIdx.x % kWarpGroupThreads / kWarpThreads;
    const BackwardLoad<kD, kQ, kStages> load{block};
    if (threadIdx.x % kWarpThreads == 0) {
      if (warp == 0) load.Produce();
      if (warp == 1 || warp == 2) load.AddDq(warp - 1);
    }
  } else {
    ClaimRegisters<ConsumerRegisters(2)>();
    BackwardCompute<kD, kQ, kStages>{block}.Consume(group);
  }
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_HOPPER_CUH_
