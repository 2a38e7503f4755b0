// Attention forward on Hopper (sm_90a), bf16 with f32 sums: FlashAttention's tiling (Dao 2023) with the overlaps of FlashAttention-3 (Shah
// et al. 2024, sec. 3.1 and 3.2), written from the papers and the PTX ISA.
//
// Blocks stay: one a multiprocessor, each takes tiles from a counter (attention_cuda_launch.h has their order). A tile is 64 queries of one
// head for each of two or three consumer warp groups; a producer warp copies q once and streams keys and values through a ring of two
// stages with the copy engine. A consumer holds in registers: scores (64 x keys of a step, f32), probabilities (bf16, the A operand of the
// second product: they never see shared memory) and out (64 x D, f32). It queues the scores of the next step and then p v of this one, so
// that the softmax runs beside p v; consumers take turns at queueing, so that one's softmax runs beside the other's products. Steps that
// the mask hides are not visited; only those that cross its edge are masked, and they come first.
//
// Shared memory: q and out 2 x 64 x consumers x D, keys and values 2 x 2 x keys x D, bf16: 192 KiB (causal) and 224 KiB of 227 at D = 128.
// Bytes moved: q, k, v, out once each, when the keys of a section of heads stay in the L2 cache. Operations: 4 B H T S D on the visible
// part, so at T = 8,192 thousands of operations a byte: bound by the tensor cores, at D = 64 also by the special function unit (one
// exponential for 4 D operations). Measured on an H100 (docs/measurements.md): 652 to 677 TFLOP/s at T = 8,192 to 16,384, D = 128, where a
// product of 8,192 cubed runs at 793.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_hopper_cuda.h"
#include "kernels/attention/attention_forward_hopper.cuh"
#include "kernels/cuda/tensor_map_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <ForwardTiling kTiling>
cudaError_t Launch(const cudaLaunchConfig_t& config, const ForwardParameters& parameters) {
  constexpr auto kKernel = ForwardKernel<kTiling.head_dim, kTiling.consumers, kTiling.keys, kTiling.stages>;
  const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kTiling.shared_bytes());
  return error != cudaSuccess ? error : cudaLaunchKernelEx(&config, kKernel, parameters);
}

// The instance of the problem's tiling, one of those that ChooseForwardTiling names.
cudaError_t LaunchTiling(const ForwardTiling& tiling, const cudaLaunchConfig_t& config, const ForwardParameters& parameters) {
  if (tiling == kForward64) return Launch<kForward64>(config, parameters);
  if (tiling == kForward128Causal) return Launch<kForward128Causal>(config, parameters);
  return Launch<kForward128>(config, parameters);
}

}  // namespace

void HopperAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  const AttentionProblem& p = args.problem;
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || p.samples == 0 || p.heads == 0 || p.queries == 0) return;
  LYCIA_CHECK(p.kv_heads > 0 && p.heads % p.kv_heads == 0) << p.kv_heads << " key heads do not divide " << p.heads << " heads ";
  LYCIA_CHECK(args.scratch.bytes() >= AttentionForwardScratchBytes(p)) << "scratch of " << args.scratch.bytes() << " bytes ";
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);

  const ForwardTiling tiling = ChooseForwardTiling(p);
  const auto map = [&](const ConstHeadsView& view, std::int64_t tokens, std::int64_t heads, int rows) {
    return EncodeTensorMap(HeadsMap(view, p.samples, tokens, heads, p.head_dim, rows), view.data);
  };
  const StatusOr<CUtensorMap> q = map(args.q, p.queries, p.heads, kGroupRows), k = map(args.k, p.keys, p.kv_heads, tiling.keys),
                              v = map(args.v, p.keys, p.kv_heads, tiling.keys), out = map(args.out, p.queries, p.heads, kGroupRows);
  for (const StatusOr<CUtensorMap>* encoded : {&q, &k, &v, &out}) {
    if (!encoded->ok()) return stream.Fail(encoded->status());
  }
  int device = 0, l2_bytes = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device);
  if (error == cudaSuccess) error = cudaMemsetAsync(args.scratch.data, 0, sizeof(int), target.stream);
  const ForwardParameters parameters{.q = *q,
                                     .k = *k,
                                     .v = *v,
                                     .out = *out,
                                     .log_sum_exp = args.log_sum_exp.as<float>(),
                                     .next_tile = static_cast<int*>(args.scratch.data),
                                     .order = ChooseTileOrder(p, tiling.queries(), l2_bytes),
                                     .queries = static_cast<int>(p.queries),
                                     .keys = static_cast<int>(p.keys),
                                     .heads = static_cast<int>(p.heads),
                                     .heads_per_key = static_cast<int>(p.heads / p.kv_heads),
                                     .causal = p.mask == MaskKind::kCausal,
                                     .shift = static_cast<int>(p.first_query - p.first_key),
                                     .scale = static_cast<float>(p.scale)};
  const int blocks = std::min(target.multiprocessors, parameters.order.tiles());
  cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(tiling.threads())));
  config.dynamicSmemBytes = static_cast<std::size_t>(tiling.shared_bytes());
  if (error == cudaSuccess) error = LaunchTiling(tiling, config, parameters);
  if (error != cudaSuccess) {
    stream.Fail(
        ToStatus(error, "AttentionForward", __FILE__, __LINE__,
                 absl::StrCat(p.samples, " samples, ", p.queries, " queries, ", p.keys, " keys, ", p.heads, " heads of ", p.head_dim)));
  }
}

}  // namespace lycia::cuda
