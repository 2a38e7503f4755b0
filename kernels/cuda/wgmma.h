// wgmma: a warp group multiplies 64 x 16 by 16 x N and adds to 64 x N of f32 in its registers (PTX ISA, "wgmma.mma_async"), bf16 operands.
//
// The product runs on its own: FenceOperands, products, CommitProducts, and WaitProducts<k> until all groups but the k last are done; in
// between nobody touches the accumulators, the A registers, or the operands in shared memory.
//
// Fragments, of a warp w of the group and lane l with g = l / 4, t = l % 4; rows r = 16 w + g and r + 8:
//   accumulator  d[4 i + 0, 1] = D[r][8 i + 2 t + 0, 1],  d[4 i + 2, 3] = D[r + 8][the same columns]
//   A registers  a[0] = A[r][2 t, 2 t + 1], a[1] = A[r + 8][same], a[2] = A[r][8 + 2 t, ...], a[3] = A[r + 8][8 + 2 t, ...]
// so that accumulators d[8 k ... 8 k + 7], packed by twos, are the A registers of step k of a following product.
// Device code only, sm_90a.
#ifndef LYCIA_KERNELS_CUDA_WGMMA_H_
#define LYCIA_KERNELS_CUDA_WGMMA_H_

#include <cstdint>

namespace lycia::cuda {

__device__ __forceinline__ void FenceOperands() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void WaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving reads of accumulators before a wait or writes after a fence.
template <int kCount>
__device__ __forceinline__ void Pin(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

enum class Summed { kColumns = 0, kRows = 1 };  // which index of the tile in shared memory k is: RowsDescriptor, ColumnsDescriptor

template <int kN>
struct Wgmma;

#define LYCIA_F8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LYCIA_F32(i) LYCIA_F8(i), LYCIA_F8(i + 8), LYCIA_F8(i + 16), LYCIA_F8(i + 24)

// d (+)= A B, A and B in shared memory; or A in registers. accumulate = false: d = A B. The numbers are of the asm operands behind d.
#define LYCIA_WGMMA(N, D_NAMES, D_OPERANDS, n0, n1, n2, n3, n4, n5, n6)                                                                \
  template <>                                                                                                                          \
  struct Wgmma<N> {                                                                                                                    \
    template <Summed kA, Summed kB>                                                                                                    \
    static __device__ __forceinline__ void Shared(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {              \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" D_NAMES \
                   "}, %" #n0 ", %" #n1 ", p, 1, 1, %" #n3 ", %" #n4 ";\n}\n"                                                          \
                   : D_OPERANDS                                                                                                        \
                   : "l"(a), "l"(b), "r"(int{accumulate}), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));                      \
    }                                                                                                                                  \
    template <Summed kB>                                                                                                               \
    static __device__ __forceinline__ void Registers(float (&d)[N / 2], const std::uint32_t* a, std::uint64_t b, bool accumulate) {    \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" D_NAMES \
                   "}, {%" #n0 ", %" #n1 ", %" #n2 ", %" #n3 "}, %" #n4 ", p, 1, 1, %" #n6 ";\n}\n"                                    \
                   : D_OPERANDS                                                                                                        \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int{accumulate}), "n"(static_cast<int>(kB)));             \
    }                                                                                                                                  \
  };

#define LYCIA_D64                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define LYCIA_D128                                                                   \
  LYCIA_D64                                                                          \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define LYCIA_D160 LYCIA_D128 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define LYCIA_D176 LYCIA_D160 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define LYCIA_D256                                                                             \
  LYCIA_D176                                                                                   \
  ", %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104" \
  ", %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119" \
  ", %120, %121, %122, %123, %124, %125, %126, %127"
#define LYCIA_O64 LYCIA_F32(0)
LYCIA_WGMMA(64, LYCIA_D64, LYCIA_O64, 32, 33, 34, 35, 36, 37, 38)
#define LYCIA_O128 LYCIA_F32(0), LYCIA_F32(32)
LYCIA_WGMMA(128, LYCIA_D128, LYCIA_O128, 64, 65, 66, 67, 68, 69, 70)
#define LYCIA_O160 LYCIA_F32(0), LYCIA_F32(32), LYCIA_F8(64), LYCIA_F8(72)
LYCIA_WGMMA(160, LYCIA_D160, LYCIA_O160, 80, 81, 82, 83, 84, 85, 86)
#define LYCIA_O176 LYCIA_F32(0), LYCIA_F32(32), LYCIA_F8(64), LYCIA_F8(72), LYCIA_F8(80)
LYCIA_WGMMA(176, LYCIA_D176, LYCIA_O176, 88, 89, 90, 91, 92, 93, 94)
#define LYCIA_O256 LYCIA_F32(0), LYCIA_F32(32), LYCIA_F32(64), LYCIA_F32(96)
LYCIA_WGMMA(256, LYCIA_D256, LYCIA_O256, 128, 129, 130, 131, 132, 133, 134)

#undef LYCIA_WGMMA
#undef LYCIA_F32
#undef LYCIA_F8

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_WGMMA_H_
