// Attention, against the registers: arithmetic limits it. Operations are those on pairs that the mask lets see each other (half of a causal
// square), twice a multiply-add: two products forward, five backward.
#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/gemm/gemm_kernels.h"
#include "launch/kernel_bench_family.h"
#include "launch/register_peak.h"

namespace lycia::internal {
namespace {

constexpr std::int64_t kHeadDim = 64;      // GPT-2's
constexpr double kBackwardProducts = 2.5;  // five products instead of two
constexpr const char* kNames[2][2] = {{"attention_causal", "attention_causal_backward"}, {"attention_full", "attention_full_backward"}};

void MeasureOne(KernelBench& bench, DType dtype, MaskKind mask, std::int64_t T, double peak) {
  const std::int64_t samples = bench.options().samples, heads = bench.options().heads, C = heads * kHeadDim;
  const AttentionProblem problem{.dtype = dtype,
                                 .samples = samples,
                                 .queries = T,
                                 .keys = T,
                                 .heads = heads,
                                 .kv_heads = heads,
                                 .head_dim = kHeadDim,
                                 .scale = 0.125,
                                 .mask = mask};
  const Tensor qkv = bench.Make(dtype, {samples, T, 3 * C}), out = bench.Make(dtype, {samples, T, C});
  const Tensor dout = bench.Make(dtype, {samples, T, C}), dqkv = bench.Make(dtype, {samples, T, 3 * C});
  const Tensor lse = bench.Make(ArithmeticDType(dtype), {samples, heads, T});
  const Tensor scratch = bench.Make(DType::kU8, {std::max(AttentionForwardScratchBytes(problem), AttentionBackwardScratchBytes(problem))});
  if (!bench.status().ok()) return;
  const auto in = SplitQkv(ConstTensor(qkv), heads, heads);
  const auto gradient = SplitQkv(dqkv, heads, heads);
  const auto forward = [&] {
    AttentionForward(
        bench.stream(),
        {.problem = problem, .q = in.q, .k = in.k, .v = in.v, .out = AsHeads(out, heads), .log_sum_exp = lse, .scratch = scratch});
  };
  forward();  // the backward reads what it leaves
  const auto& names = kNames[mask == MaskKind::kCausal ? 0 : 1];
  const char* isa = cpu::SelectedKernel(dtype).name;
  const double flops = AttentionForwardFlops(problem);
  const KernelBench::Row row{.name = names[0], .dtype = dtype, .m = T, .n = T, .k = kHeadDim};
  bench.MeasureFlops(row, flops, isa, peak, forward);
  KernelBench::Row backward = row;
  backward.name = names[1];
  bench.MeasureFlops(backward, kBackwardProducts * flops, isa, peak, [&] {
    AttentionBackward(bench.stream(), {.problem = problem,
                                       .q = in.q,
                                       .k = in.k,
                                       .v = in.v,
                                       .out = AsHeads(ConstTensor(out), heads),
                                       .dout = AsHeads(ConstTensor(dout), heads),
                                       .log_sum_exp = lse,
                                       .dq = gradient.q,
                                       .dk = gradient.k,
                                       .dv = gradient.v,
                                       .scratch = scratch});
  });
  bench.Release();
}

}  // namespace

void MeasureAttention(KernelBench& bench) {
  if (!bench.WantsAny({kNames[0][0], kNames[0][1], kNames[1][0], kNames[1][1]})) return;
  for (const DType dtype : bench.options().dtypes) {
    const double peak = RegisterPeakGflops(cpu::SelectedKernel(dtype), *bench.stream().pool(), bench.options().cpu_clock);
    for (const MaskKind mask : {MaskKind::kCausal, MaskKind::kFull}) {
      for (const std::int64_t T : bench.options().sequences) MeasureOne(bench, dtype, mask, T, peak);
    }
  }
}

}  // namespace lycia::internal
