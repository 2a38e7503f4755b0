#include "kernels/gemm/gemm_kernels.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/isa.h"

namespace lycia::cpu {
namespace {

// asm/prctl.h of kernels since 5.16.
constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr int kTileData = 18;               // the processor state that tiles live in

bool AskForTiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

struct Selection {
  const MicroKernel* f32;
  const MicroKernel* bf16;
};
Selection& Selected() {
  static Selection selected = [] {
    const GemmFeatures features = DetectGemmFeatures();
    return Selection{&BestKernel(DType::kF32, features), &BestKernel(DType::kBF16, features)};
  }();
  return selected;
}

}  // namespace

bool RequestTilePermission() {
  static const bool allowed = AskForTiles();
  return allowed;
}

GemmFeatures DetectGemmFeatures() {
  __builtin_cpu_init();
  GemmFeatures features;
  features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  features.avx512 = DetectIsa() == Isa::kAvx512;
  features.avx512_bf16 = features.avx512 && __builtin_cpu_supports("avx512bf16");
  features.slow_bf16 = __builtin_cpu_is("intel");
  features.amx = features.avx512 && RequestTilePermission();
  return features;
}

std::vector<const MicroKernel*> UsableKernels(DType dtype, const GemmFeatures& features) {
  std::vector<const MicroKernel*> kernels = {&PortableKernel()};
  if (features.avx2) kernels.push_back(&Avx2Kernel());
  if (features.avx512) kernels.push_back(&Avx512Kernel());
  if (dtype == DType::kBF16 && features.avx512_bf16) kernels.push_back(&Avx512Bf16Kernel());
  if (dtype == DType::kBF16 && features.amx) kernels.push_back(&AmxKernel());
  return kernels;
}

const MicroKernel& BestKernel(DType dtype, const GemmFeatures& features) {
  GemmFeatures fast = features;
  if (features.slow_bf16) fast.avx512_bf16 = false;
  return *UsableKernels(dtype, fast).back();
}

const MicroKernel& SelectedKernel(DType dtype) { return dtype == DType::kBF16 ? *Selected().bf16 : *Selected().f32; }

namespace internal {
void SelectKernel(DType dtype, const MicroKernel* kernel) {
  if (kernel == nullptr) kernel = &BestKernel(dtype, DetectGemmFeatures());
  (dtype == DType::kBF16 ? Selected().bf16 : Selected().f32) = kernel;
}
}  // namespace internal

}  // namespace lycia::cpu
