// Attention backward on Hopper (sm_90a), bf16 with f32 sums (FlashAttention-2, Dao 2023, sec. 3.1.2), the same bits in every run.
//
// Three kernels. Prepare: delta = sum of dout * out for each query. Main: a block has 128 keys of one key head, 64 for each of two warp
// groups, and goes over all query heads that read it and their steps of 64 (D = 128) or 128 (D = 64) queries; dk and dv stay in registers.
// With rows for keys, a step is
//
//   scoresᵀ = k qᵀ,  p = exp(scale scores - log_sum_exp),  dpᵀ = v doutᵀ,  dscores = p (dp - delta),
//   dv += pᵀ dout,  dk += dscoresᵀ q  (A operands from registers),  dq += dscores k  (dscores of both groups through shared memory)
//
// The parts of dq of both groups, scaled, go to shared memory in the order of accumulators, and one bulk reduction adds them in the L2
// cache (f32): `red` from registers was a quarter slower, 488 against 536 TFLOP/s. Parts of a query block are added in the order of
// DqOrder: two threads of the producer group, one for each buffer, wait for the turn, add, and pass it on, so that consumers see no fence;
// without any order it is no faster. Dq: to rows of bf16. The scale of dk comes at the end.
//
// Shared memory at D = 128: keys and values 64 KiB, two stages of q and dout 64, two of dscores 32, two of dq 64: 224 of 227. Registers of
// a consumer: dk and dv 128, scores and dp 64, so probabilities are kept as bf16 only; dk runs on into the next step, its dscores from
// shared memory. Bytes moved: q, k, v, out, dout, dq, dk, dv once each, and for each head 4 T D for every 128 keys, dq's parts, within the
// L2 cache. Operations: 10 B H T S D on the visible part: bound by the tensor cores and, as their operands of 64 rows are small, by the
// bandwidth of shared memory. Measured on an H100 (docs/measurements.md): 514 to 546 TFLOP/s at T = 8,192 to 16,384, D = 128; without the
// sums of dq 647 to 687.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <numbers>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_hopper_cuda.h"
#include "kernels/attention/attention_backward_hopper.cuh"
#include "kernels/cuda/tensor_map_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPrepareThreads = 256;
constexpr int kRowElements = 8;  // of 16 bytes: what a thread reads of a row

struct PrepareParameters {
  const __nv_bfloat16 *out, *dout;               // [B, T, H, D], strides below
  std::int64_t out_strides[3], dout_strides[3];  // sample, row, head
  const float* log_sum_exp;                      // [B, H, T]
  float *log_sum_exp2, *delta;                   // [B, H, rows]
  int* added;                                    // set to 0
  int* ticket;                                   // set to 0
  int num_added, queries, heads, rows;
};

// delta = sum over D of dout * out; log_sum_exp in base 2. Rows behind T, and those that see nothing, get +infinity, which makes their
// probabilities 0. Grid: (row groups, heads, samples).
template <int kD>
__global__ void __launch_bounds__(kPrepareThreads) PrepareKernel(PrepareParameters p) {
  constexpr int kThreadsPerRow = kD / kRowElements;
  const int row = (blockIdx.x * kPrepareThreads + threadIdx.x) / kThreadsPerRow, part = threadIdx.x % kThreadsPerRow;
  const int head = blockIdx.y, sample = blockIdx.z;
  const std::int64_t block = (std::int64_t{sample} * gridDim.y + head) * gridDim.x + blockIdx.x,
                     index = block * kPrepareThreads + threadIdx.x;
  if (index < p.num_added) p.added[index] = 0;
  if (index == 0) *p.ticket = 0;
  float sum = 0;
  if (row < p.queries) {
    const auto read = [&](const __nv_bfloat16* data, const std::int64_t* strides) {
      return *reinterpret_cast<const uint4*>(data + sample * strides[0] + row * strides[1] + head * strides[2] + part * kRowElements);
    };
    const uint4 a = read(p.out, p.out_strides), b = read(p.dout, p.dout_strides);
    const std::uint32_t as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum += __uint_as_float(as[i] << 16) * __uint_as_float(bs[i] << 16);
      sum += __uint_as_float(as[i] & 0xffff0000u) * __uint_as_float(bs[i] & 0xffff0000u);
    }
  }
#pragma unroll
  for (int distance = kThreadsPerRow / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (part != 0 || row >= p.rows) return;
  const std::int64_t line = std::int64_t{sample} * p.heads + head;
  const float given = row < p.queries ? p.log_sum_exp[line * p.queries + row] : -INFINITY;
  p.delta[line * p.rows + row] = sum;
  p.log_sum_exp2[line * p.rows + row] = given == -INFINITY ? INFINITY : given * std::numbers::log2e_v<float>;
}

struct DqParameters {
  CUtensorMap dq;       // boxes of 64 queries by one panel
  const float* summed;  // [B, H, rows, D] in the order of accumulators
  DqOrder order;
  int rows;
};
constexpr int kDqThreads = 2 * kWarpGroupThreads;  // a warp group for each part of 64 x 64

// dq, from the order of accumulators to rows. Grid: (query blocks, heads, samples).
template <int kD, int kQ>
__global__ void __launch_bounds__(kDqThreads) DqKernel(const __grid_constant__ DqParameters p) {
  __shared__ __align__(kSwizzleAtomBytes) char shared[kQ * kD * 2];
  const int m = blockIdx.x, head = blockIdx.y, sample = blockIdx.z, group = threadIdx.x / kWarpGroupThreads,
            thread = threadIdx.x % kWarpGroupThreads, lane = thread % kWarpThreads;
  const bool seen = p.order.SeenBy(m) > 0;
  const int part_row = kQ == 128 ? group * kGroupRows : 0, part_column = kQ == 128 ? 0 : group * kPanelColumns;
  const int row = part_row + thread / kWarpThreads * 16 + lane / 4;
  const auto* from = reinterpret_cast<const float4*>(p.summed + ((std::int64_t{sample} * gridDim.y + head) * p.rows + m * kQ) * kD +
                                                     group * kGroupRows * kPanelColumns) +
                     thread;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float4 x = seen ? from[j * kWarpGroupThreads] : make_float4(0, 0, 0, 0);
    const int column = part_column + 8 * j + lane % 4 * 2;
    *reinterpret_cast<std::uint32_t*>(shared + TileOffset(kQ, row, column)) = PackBf16(x.x, x.y);
    *reinterpret_cast<std::uint32_t*>(shared + TileOffset(kQ, row + 8, column)) = PackBf16(x.z, x.w);
  }
  FenceSharedForAsync();
  BarrierSync(1 + group, kWarpGroupThreads);
  if (thread != 0) return;
  StoreBox(&p.dq, {part_column, m * kQ + part_row, head, sample}, shared + TileOffset(kQ, part_row, part_column));
  CommitStores();
  WaitStores();
}

template <BackwardTiling kTiling>
cudaError_t Launch(const StreamTarget& target, const AttentionProblem& p, const PrepareParameters& prepare, const BackwardParameters& main,
                   const DqParameters& dq) {
  constexpr int kD = kTiling.head_dim, kQ = kTiling.queries;
  const auto heads = static_cast<unsigned>(p.heads), samples = static_cast<unsigned>(p.samples);
  constexpr int kRowsPerBlock = kPrepareThreads / (kD / kRowElements);
  const auto row_blocks = static_cast<unsigned>((main.rows + kRowsPerBlock - 1) / kRowsPerBlock);
  cudaLaunchConfig_t config = LaunchConfig(target, dim3(row_blocks, heads, samples), dim3(kPrepareThreads));
  if (const cudaError_t error = cudaLaunchKernelEx(&config, PrepareKernel<kD>, prepare); error != cudaSuccess) return error;

  constexpr auto kMain = BackwardKernel<kD, kQ, kTiling.stages>;
  if (const cudaError_t error = cudaFuncSetAttribute(kMain, cudaFuncAttributeMaxDynamicSharedMemorySize, kTiling.shared_bytes());
      error != cudaSuccess) {
    return error;
  }
  const std::int64_t tiles = main.order.key_blocks * p.samples * p.kv_heads;
  config = LaunchConfig(target, dim3(static_cast<unsigned>(std::min<std::int64_t>(tiles, target.multiprocessors))), dim3(kBackwardThreads));
  config.dynamicSmemBytes = static_cast<std::size_t>(kTiling.shared_bytes());
  if (const cudaError_t error = cudaLaunchKernelEx(&config, kMain, main); error != cudaSuccess) return error;

  config = LaunchConfig(target, dim3(static_cast<unsigned>(main.order.query_blocks), heads, samples), dim3(kDqThreads));
  return cudaLaunchKernelEx(&config, DqKernel<kD, kQ>, dq);
}

}  // namespace

void HopperAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  const AttentionProblem& p = args.problem;
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || p.samples == 0 || p.heads == 0 || p.queries == 0) return;
  LYCIA_CHECK(args.scratch.bytes() >= AttentionBackwardScratchBytes(p)) << "scratch of " << args.scratch.bytes() << " bytes ";
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);

  const BackwardTiling tiling = ChooseBackwardTiling(p);
  const BackwardScratchPlan plan = PlanBackwardScratch(p);
  const auto map = [&](const ConstHeadsView& view, std::int64_t tokens, std::int64_t heads, int rows) {
    return EncodeTensorMap(HeadsMap(view, p.samples, tokens, heads, p.head_dim, rows), view.data);
  };
  const StatusOr<CUtensorMap> q = map(args.q, p.queries, p.heads, tiling.queries),
                              dout = map(args.dout, p.queries, p.heads, tiling.queries), k = map(args.k, p.keys, p.kv_heads, tiling.keys()),
                              v = map(args.v, p.keys, p.kv_heads, tiling.keys()), dk = map(args.dk, p.keys, p.kv_heads, kGroupRows),
                              dv = map(args.dv, p.keys, p.kv_heads, kGroupRows), dq = map(args.dq, p.queries, p.heads, kGroupRows),
                              out = map(args.out, p.queries, p.heads, kGroupRows);
  for (const StatusOr<CUtensorMap>* encoded : {&q, &dout, &k, &v, &dk, &dv, &dq, &out}) {
    if (!encoded->ok()) return stream.Fail(encoded->status());
  }
  auto* floats = static_cast<float*>(args.scratch.data);
  const auto at = [&](std::int64_t bytes) { return floats + bytes / 4; };
  int* added = reinterpret_cast<int*>(at(plan.added_at));
  int* ticket = reinterpret_cast<int*>(at(plan.ticket_at));
  const DqOrder order = ChooseDqOrder(p, tiling, target.multiprocessors);
  const int heads = static_cast<int>(p.heads), rows = static_cast<int>(plan.rows);
  const PrepareParameters prepare{.out = static_cast<const __nv_bfloat16*>(args.out.data),
                                  .dout = static_cast<const __nv_bfloat16*>(args.dout.data),
                                  .out_strides = {args.out.sample_stride, args.out.row_stride, args.out.head_stride},
                                  .dout_strides = {args.dout.sample_stride, args.dout.row_stride, args.dout.head_stride},
                                  .log_sum_exp = args.log_sum_exp.as<float>(),
                                  .log_sum_exp2 = at(plan.log_sum_exp_at),
                                  .delta = at(plan.delta_at),
                                  .added = added,
                                  .ticket = ticket,
                                  .num_added = static_cast<int>(p.samples * p.heads * order.query_blocks),
                                  .queries = order.queries,
                                  .heads = heads,
                                  .rows = rows};
  const BackwardParameters main{.q = *q,
                                .dout = *dout,
                                .k = *k,
                                .v = *v,
                                .dk = *dk,
                                .dv = *dv,
                                .log_sum_exp = prepare.log_sum_exp2,
                                .delta = prepare.delta,
                                .dq = at(plan.dq_at),
                                .added = added,
                                .ticket = ticket,
                                .order = order,
                                .samples = static_cast<int>(p.samples),
                                .heads = heads,
                                .kv_heads = static_cast<int>(p.kv_heads),
                                .rows = rows,
                                .scale = static_cast<float>(p.scale)};
  const DqParameters finish{.dq = *dq, .summed = main.dq, .order = order, .rows = rows};
  const cudaError_t error = tiling == kBackward64 ? Launch<kBackward64>(target, p, prepare, main, finish)
                                                  : Launch<kBackward128>(target, p, prepare, main, finish);
  if (error != cudaSuccess) {
    stream.Fail(
        ToStatus(error, "AttentionBackward", __FILE__, __LINE__,
                 absl::StrCat(p.samples, " samples, ", p.queries, " queries, ", p.keys, " keys, ", p.heads, " heads of ", p.head_dim)));
  }
}

}  // namespace lycia::cuda
