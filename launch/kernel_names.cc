#include "launch/kernel_names.h"

#include "kernels/cpu/isa.h"
#include "kernels/gemm/gemm_kernels.h"

namespace lycia {

KernelNames KernelsFor(DType dtype) {
  const char* const kOthers[] = {"x86-64", "AVX2", "AVX-512"};
  return {.products = dtype == DType::kF64 ? "BLAS" : cpu::SelectedKernel(dtype).name, .others = kOthers[static_cast<int>(cpu::BestIsa())]};
}

}  // namespace lycia
