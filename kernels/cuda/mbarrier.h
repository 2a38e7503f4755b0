// Barriers in shared memory (PTX ISA, "mbarrier"): a phase ends when the expected arrivals and the expected bytes of the copy engine are
// in. Device code only, sm_90.
#ifndef LYCIA_KERNELS_CUDA_MBARRIER_H_
#define LYCIA_KERNELS_CUDA_MBARRIER_H_

#include <cstdint>

namespace lycia::cuda {

__device__ __forceinline__ std::uint32_t SharedAddress(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

struct alignas(8) Barrier {
  std::uint64_t word;

  __device__ __forceinline__ void Init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(&word)), "r"(arrivals));
  }
  __device__ __forceinline__ void Arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(&word)) : "memory");
  }
  // An arrival that also announces bytes of copies whose end counts here.
  __device__ __forceinline__ void ArriveExpecting(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(&word)), "r"(bytes) : "memory");
  }
  // Returns once the phase of this parity has ended; the phase before the first has parity 1 and has ended.
  __device__ __forceinline__ void Wait(int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra ended;\n"
        "bra again;\n"
        "ended:\n"
        "}\n" ::"r"(SharedAddress(&word)),
        "r"(parity)
        : "memory");
  }
};

// Makes initialised barriers visible to the copy engine; a __syncthreads makes them visible to the block.
__device__ __forceinline__ void FenceBarrierInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// A position in a ring of stages: both sides of a pipeline step through it alike. The consumer waits for parity(), the producer for the
// slot's release with parity() ^ 1, which the first round passes at once.
template <int kStages>
struct RingPosition {
  int stage = 0, round = 0;

  __device__ __forceinline__ int parity() const { return round; }
  __device__ __forceinline__ RingPosition Before() const {
    return stage == 0 ? RingPosition{kStages - 1, round ^ 1} : RingPosition{stage - 1, round};
  }
  __device__ __forceinline__ void Next() {
    if (++stage == kStages) stage = 0, round ^= 1;
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_MBARRIER_H_
