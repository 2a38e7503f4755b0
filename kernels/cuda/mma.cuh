// The tensor cores as a warp sees them from sm_80 on: mma.sync of bf16 and f16 with sums in f32, and ldmatrix, which brings its operands
// from shared memory. Which lane holds what: mma_fragment.h. All 32 lanes come to each of these together. Where kernels are emulated
// (testing/emulated_cuda.h) the lanes exchange their fragments and multiply element by element.
#ifndef LYCIA_KERNELS_CUDA_MMA_CUH_
#define LYCIA_KERNELS_CUDA_MMA_CUH_

#include <cstdint>

#include "kernels/cuda/mma_fragment.h"
#include "runtime/core/bfloat16.h"
#include "runtime/core/float16.h"

namespace lycia::cuda {

// Fragments by pairs of elements, one register each.
struct OperandA {  // 16 rows x 16 of depth
  std::uint32_t pairs[4];
};
struct OperandB {  // 16 of depth x 8 columns
  std::uint32_t pairs[2];
};

#if defined(LYCIA_EMULATED_CUDA)

template <typename T>
float ElementOfPairs(const std::uint32_t* pairs, int element) {
  return static_cast<float>(T::FromBits(static_cast<std::uint16_t>(pairs[element / 2] >> element % 2 * 16)));
}

template <typename T>
void MultiplyAdd(float* sums, const OperandA& a, const OperandB& b) {
  struct Fragments {
    OperandA a;
    OperandB b;
  };
  const emulator::WarpValues<Fragments> all = emulator::Exchange(Fragments{a, b});
  // The lane's sums are of two rows and two columns.
  const MatrixPlace first = PlaceInSums({emulator::Lane(), 0});
  for (int half = 0; half < 2; ++half) {
    float row[kMmaDepth];
    for (int k = 0; k < kMmaDepth; ++k) {
      const FragmentPlace from = HolderInA({first.row + 8 * half, k});
      row[k] = ElementOfPairs<T>(all.Of(from.lane)->a.pairs, from.element);
    }
    for (int next = 0; next < 2; ++next) {
      for (int k = 0; k < kMmaDepth; ++k) {
        const FragmentPlace from = HolderInB({k, first.column + next});
        sums[2 * half + next] += row[k] * ElementOfPairs<T>(all.Of(from.lane)->b.pairs, from.element);
      }
    }
  }
}

// row: of 16 bytes, aligned to them.
template <bool kTransposed>
void LoadMatrices(std::uint32_t (&to)[4], const void* row) {
  emulator::Require(reinterpret_cast<std::uintptr_t>(row) % 16 == 0, "a row of ldmatrix is not aligned");
  const emulator::WarpValues<const void*> rows = emulator::Exchange(row);
  const int lane = emulator::Lane(), major = lane / 4, minor = lane % 4 * 2;
  for (int matrix = 0; matrix < 4; ++matrix) {
    std::uint32_t pair = 0;
    for (int e = 0; e < 2; ++e) {
      const int from = kTransposed ? minor + e : major, at = kTransposed ? major : minor + e;
      pair |= static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(*rows.Of(8 * matrix + from))[at]) << 16 * e;
    }
    to[matrix] = pair;
  }
}

#else

// sums[0 ... 3] += A B.
template <typename T>
__device__ __forceinline__ void MultiplyAdd(float* sums, const OperandA& a, const OperandB& b) {
  static_assert(sizeof(T) == 0, "operands are BFloat16 or Float16");
}
#define LYCIA_MMA(TYPE, NAME)                                                                                             \
  template <>                                                                                                             \
  __device__ __forceinline__ void MultiplyAdd<TYPE>(float* sums, const OperandA& a, const OperandB& b) {                  \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME                                                   \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                   \
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                             \
                 : "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3]), "r"(b.pairs[0]), "r"(b.pairs[1])); \
  }
LYCIA_MMA(BFloat16, "bf16")
LYCIA_MMA(Float16, "f16")
#undef LYCIA_MMA

// row: of 16 bytes in shared memory, aligned to them.
template <bool kTransposed>
__device__ __forceinline__ void LoadMatrices(std::uint32_t (&to)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}

#endif

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_MMA_CUH_
