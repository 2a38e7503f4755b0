// Matrix products.
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"
#include "launch/kernel_bench_family.h"
#include "launch/register_peak.h"

namespace lycia {

std::vector<KernelBenchOptions::Shape> Gpt2Shapes() {
  std::vector<KernelBenchOptions::Shape> shapes;
  for (const std::int64_t tokens : {256, 1024}) {
    for (const auto& [n, k] : {std::pair{768, 768}, {2304, 768}, {3072, 768}, {768, 3072}, {50257, 768}}) shapes.push_back({tokens, n, k});
  }
  return shapes;
}

namespace internal {
namespace {

using Product = KernelBenchOptions::Shape;

// The products of a linear layer y [m, n] = x [m, k] W [k, n], as in gemm.h, and the tied head, whose W is stored transposed.
enum class Use { kForward, kForwardPacked, kHead, kInputGradient, kWeightGradient };
constexpr struct {
  Use use;
  const char* name;
} kUses[] = {{Use::kForwardPacked, "gemm_forward_packed"},
             {Use::kForward, "gemm_forward"},
             {Use::kHead, "gemm_head"},
             {Use::kInputGradient, "gemm_input_gradient"},
             {Use::kWeightGradient, "gemm_weight_gradient"}};

// One product c [m, n] of depth k. A gradient of weights is added up in f32.
void MeasureUse(KernelBench& bench, Use use, const KernelBench::Row& row, const cpu::MicroKernel& kernel, double peak) {
  const bool transpose_a = use == Use::kWeightGradient, transpose_b = use == Use::kHead || use == Use::kInputGradient;
  const Tensor a = bench.Make(row.dtype, transpose_a ? Shape{row.k, row.m} : Shape{row.m, row.k});
  const Tensor b = bench.Make(row.dtype, transpose_b ? Shape{row.n, row.k} : Shape{row.k, row.n});
  const Tensor c = bench.Make(DType::kF32, {row.m, row.n});
  GemmArgs args = {.a = AsMatrix(a), .transpose_a = transpose_a, .c = AsMatrix(c), .accumulate = use == Use::kWeightGradient};
  if (use == Use::kForwardPacked || use == Use::kInputGradient) {
    const Tensor packed = bench.Make(DType::kU8, {PackedMatrixBytes(row.dtype, row.k, row.n)});
    args.packed_b = {packed.data, row.dtype, row.k, row.n};
    if (bench.status().ok()) PackMatrix(bench.stream(), {.b = AsMatrix(b), .transpose_b = transpose_b, .to = args.packed_b});
  } else {
    args.b = AsMatrix(b);
    args.transpose_b = transpose_b;
  }
  const double flops = 2 * static_cast<double>(row.m) * static_cast<double>(row.n) * static_cast<double>(row.k);
  bench.MeasureFlops(row, flops, kernel.name, peak, [&] { Gemm(bench.stream(), args); });
  bench.Release();
}

}  // namespace

void MeasureGemm(KernelBench& bench) {
  bool any = false;
  for (const auto& use : kUses) any = any || bench.Wants(use.name);
  if (!any) return;
  for (const DType dtype : bench.options().dtypes) {
    std::vector<const cpu::MicroKernel*> kernels = {&cpu::SelectedKernel(dtype)};
    if (bench.options().every_isa) kernels = cpu::UsableKernels(dtype, cpu::DetectGemmFeatures());
    for (const cpu::MicroKernel* kernel : kernels) {
      cpu::internal::SelectKernel(dtype, kernel);
      const double peak = RegisterPeakGflops(*kernel, *bench.stream().pool(), bench.options().cpu_clock);
      for (const auto& [use, name] : kUses) {
        if (!bench.Wants(name)) continue;
        for (const Product& s : bench.options().shapes) {
          MeasureUse(bench, use, {.name = name, .dtype = dtype, .m = s.m, .n = s.n, .k = s.k}, *kernel, peak);
        }
      }
    }
    cpu::internal::SelectKernel(dtype, nullptr);
  }
}

}  // namespace internal
}  // namespace lycia
