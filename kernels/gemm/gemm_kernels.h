// Which micro kernel multiplies on this machine: the best that the processor and the operating system allow.
#ifndef LYCIA_KERNELS_GEMM_GEMM_KERNELS_H_
#define LYCIA_KERNELS_GEMM_GEMM_KERNELS_H_

#include <vector>

#include "kernels/gemm/micro/micro_kernel.h"
#include "runtime/core/dtype.h"

namespace lycia::cpu {

// Asks the operating system, once for the process, to let its threads use AMX tiles; best before they start. True: allowed. False: no AMX
// in CPUID leaf 7, or refused. (Some virtual machines hide CPUID leaf 0x1D, which describes the tiles; it is not asked.)
bool RequestTilePermission();

struct GemmFeatures {
  bool avx2 = false;    // with FMA
  bool avx512 = false;  // F, BW, DQ, VL
  bool avx512_bf16 = false;
  bool slow_bf16 = false;  // AVX512_BF16 at half the rate of f32: all Intel processors that have it
  bool amx = false;        // tiles, bf16, permission
};
GemmFeatures DetectGemmFeatures();

// f32: AVX-512, AVX2, SSE2. bf16: AMX, AVX512_BF16 unless slow, else the f32 kernels on widened operands.
const MicroKernel& BestKernel(DType dtype, const GemmFeatures& features);
// Every kernel that can multiply this type here, the least first.
std::vector<const MicroKernel*> UsableKernels(DType dtype, const GemmFeatures& features);

// What Gemm and PackMatrix use for f32 or bf16.
const MicroKernel& SelectedKernel(DType dtype);

namespace internal {
// Written by tests and benches only, with what UsableKernels gives, to run the other paths; null: the best.
void SelectKernel(DType dtype, const MicroKernel* kernel);
}  // namespace internal

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_GEMM_KERNELS_H_
