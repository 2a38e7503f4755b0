// Mapped products on Hopper (sm_90a), bf16 with f32 sums, as many rows, or as much depth, as a word in device memory says.
//
// As many blocks as multiprocessors go through the tiles of 128 x 256 that the word leaves (MappedTileAt); the rest of the launch does not
// exist. A producer warp group streams steps of 64 of the depth through a ring of three stages: boxes by the copy engine; listed rows of a
// by asynchronous copies of 16 bytes, so that no compact copy of them is made. Two consumer warp groups multiply 64 x 256 each (wgmma) and
// keep one product in flight behind the next. The producer goes on to the next tile while consumers end one. Of a depth that ends within a
// step the consumers zero the rows beyond it, which nobody has written.
//
// On their way out rows of bf16 stand in shared memory of their own, and bulk copies take them to c, or each to all members of its cluster
// (`scattered`): expanding costs the writes of y and nothing else, and neither writes nor reads compact rows. Gradients, f32, go from
// registers by pairs, 32 bytes a quarter warp.
//
// Shared memory: 3 x 48 KiB and 66 KiB; registers: 128 sums a thread of a consumer, which takes registers from the producer. Bytes of a
// step: 48 KiB for 2 * 128 * 256 * 64 operations, 85 a byte, from L2; of memory each operand once as far as 16 x 8 tiles share them there.
// Limit: the tensor cores. What a layer costs beside r of its dense time, whole rows, M x K to N in bf16 at bandwidth B and dense rate P:
//   find   (1 + 2 (1 - r)) M K 2 bytes / B   (build_index_map_cuda.cu), and a dozen launches
//   expand M N 2 bytes / B                   (in this kernel, beside its products)
// With x = P / (B N), e the share of the dense rate that this kernel has and l that of the launches, reuse pays below
// r* = (1 - 3 x - l) / (1 / e - 2 x). At M = 16,384, K = N = 4,096 and P / B = 184 operations a byte, x = 0.045 and l = 0.03: r* = 0.82 at
// e = 0.9, and at r = 0.5 dense over reuse is 1 / (0.5 / e + 0.12): 1.48 at e = 0.9, 1.41 at 0.85. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/reuse/mapped_gemm_cuda.h"
#include "kernels/reuse/mapped_gemm_produce.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr int kConsumerWarps = 8;
constexpr int kFirstBarrier = 1;  // of hardware: one a consumer, then one of both
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

// Rows of depth from `first` on become zeros in both operands, whose panels stand one after the other.
__device__ __forceinline__ void ZeroDepth(MappedStage& stage, int first) {
  constexpr int kPanels = (kMappedLeftBytes + kMappedRightBytes) / kMappedPanelBytes, kThreads = kMappedConsumers * kWarpGroupThreads;
  const int bytes = (kMappedDepth - first) * kPanelRowBytes;
  for (int panel = 0; panel < kPanels; ++panel) {
    for (int at = static_cast<int>(threadIdx.x) * kPieceBytes; at < bytes; at += kThreads * kPieceBytes) {
      *reinterpret_cast<uint4*>(stage.left + panel * kMappedPanelBytes + first * kPanelRowBytes + at) = make_uint4(0, 0, 0, 0);
    }
  }
  FenceSharedForAsync();
  BarrierSync(kFirstBarrier + kMappedConsumers, kThreads);
}

// d = the sums of one tile; rows 64 consumer .. + 63.
template <MappedOver kOver, Summed kRight, bool kListed>
__device__ __forceinline__ void Multiply(MappedShared& shared, const MappedExtent& extent, int consumer, RingPosition<kMappedStages>& at,
                                         float (&d)[kMappedColumns / 2]) {
  const bool elected = threadIdx.x % kWarpThreads == 0;
#pragma unroll
  for (int i = 0; i < kMappedColumns / 2; ++i) d[i] = 0;
  const int steps = extent.steps();
  for (int step = 0; step < steps; ++step, at.Next()) {
    MappedStage& stage = shared.stages[at.stage];
    shared.full[at.stage].Wait(at.parity());
    if constexpr (kListed) FenceSharedForAsync();  // pieces were copied by threads
    if constexpr (kOver == MappedOver::kDepth) {
      if (step + 1 == steps && extent.depth % kMappedDepth != 0) ZeroDepth(stage, extent.depth % kMappedDepth);
    }
    const std::uint64_t a =
        kOver == MappedOver::kRows
            ? RowsDescriptor(SharedAddress(stage.left) + static_cast<unsigned>(consumer * kMappedGroupRows * kPanelRowBytes))
            : ColumnsDescriptor(SharedAddress(stage.left) + static_cast<unsigned>(consumer * kMappedPanelBytes), kMappedDepth);
    const std::uint64_t b = kRight == Summed::kColumns ? RowsDescriptor(SharedAddress(stage.right))
                                                       : ColumnsDescriptor(SharedAddress(stage.right), kMappedDepth);
    Pin(d);
    FenceOperands();
#pragma unroll
    for (int k = 0; k < kMappedDepth / kStepK; ++k) {
      const int a_bytes = kOver == MappedOver::kRows ? RowsStepBytes(kMappedRows, k) : ColumnsStepBytes(k);
      const int b_bytes = kRight == Summed::kColumns ? RowsStepBytes(kMappedColumns, k) : ColumnsStepBytes(k);
      constexpr Summed kLeft = kOver == MappedOver::kRows ? Summed::kColumns : Summed::kRows;
      Wgmma<kMappedColumns>::template Shared<kLeft, kRight>(d, Advance(a, a_bytes), Advance(b, b_bytes), true);
    }
    CommitProducts();
    WaitProducts<1>();  // the step before has read its stage
    if (step > 0 && elected) shared.empty[at.Before().stage].Arrive();
  }
  WaitProducts<0>();
  if (steps > 0 && elected) shared.empty[at.Before().stage].Arrive();
  Pin(d);
}

// Sums of a tile to memory: rows by bulk copies, a gradient by pairs. Bulk copies are left on their way; the next tile waits for them, and
// the kernel's end.
template <MappedOver kOver>
__device__ __forceinline__ void PutTile(const MappedParameters& p, MappedShared& shared, const MappedExtent& extent,
                                        const MappedTile& place, int consumer, const float (&d)[kMappedColumns / 2]) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpGroupThreads, lane = thread % kWarpThreads, warp = thread / kWarpThreads;
  const int first_row = place.row * kMappedRows + consumer * kMappedGroupRows, first_column = place.column * kMappedColumns;
  char* const out = shared.out[consumer];
  if constexpr (kOver == MappedOver::kRows) {
    WaitStoresRead();
    BarrierSync(kFirstBarrier + consumer, kWarpGroupThreads);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int in_group = warp * 16 + lane / 4 + half * 8, row = first_row + in_group;
    if (row >= extent.rows) break;
#pragma unroll
    for (int i = 0; i < kMappedColumns / 8; ++i) {
      const int in_tile = 8 * i + lane % 4 * 2, column = first_column + in_tile;
      if (column >= p.columns) break;  // columns are even
      const Values<float, 2> pair = p.epilogue.Apply<2>(row, column, {{d[4 * i + 2 * half], d[4 * i + 2 * half + 1]}});
      if constexpr (kOver == MappedOver::kRows) {
        *reinterpret_cast<std::uint32_t*>(out + in_group * kMappedRowBytes + in_tile * 2) = PackBf16(pair[0], pair[1]);
      } else {
        p.epilogue.c.Put<2>(row, column, pair);
      }
    }
  }
  if constexpr (kOver == MappedOver::kRows) {
    FenceSharedForAsync();
    BarrierSync(kFirstBarrier + consumer, kWarpGroupThreads);
    const int end = extent.rows - first_row < kMappedGroupRows ? extent.rows - first_row : kMappedGroupRows;
    const int bytes = 2 * (p.columns - first_column < kMappedColumns ? p.columns - first_column : kMappedColumns);
    if (end > 0 && p.scattered != nullptr) {
      const int last = p.map.offsets[first_row + end];
      for (int i = p.map.offsets[first_row] + thread; i < last; i += kWarpGroupThreads) {
        const int m = p.map.members[i], in_group = p.map.ids[m] - first_row;
        StoreBytes(p.scattered + m * p.scattered_ld + first_column, out + in_group * kMappedRowBytes, bytes);
      }
    } else if (thread < end) {
      BFloat16* const c = static_cast<BFloat16*>(p.epilogue.c.data) + (first_row + thread) * p.epilogue.c.ld + first_column;
      StoreBytes(c, out + thread * kMappedRowBytes, bytes);
    }
    CommitStores();
  }
}

template <MappedOver kOver, Summed kRight, bool kListed>
__global__ void __launch_bounds__(kMappedThreads, 1) MappedGemmHopperKernel(const __grid_constant__ MappedParameters p) {
  extern __shared__ char memory[];
  const std::uint32_t skew = SharedAddress(memory) % kSwizzleAtomBytes;
  auto& shared = *reinterpret_cast<MappedShared*>(memory + (skew == 0 ? 0 : kSwizzleAtomBytes - skew));
  const int thread = static_cast<int>(threadIdx.x), warp_group = thread / kWarpGroupThreads;
  const MappedExtent extent = ExtentOf<kOver>(p);
  if (static_cast<int>(blockIdx.x) >= extent.tiles()) return;
  if (thread == 0) {
    if (!kListed) PrefetchTensorMap(&p.left);
    PrefetchTensorMap(&p.right);
#pragma unroll
    for (int i = 0; i < kMappedStages; ++i) {
      shared.full[i].Init(kListed ? 1 + kWarpGroupThreads : 1);
      shared.empty[i].Init(kConsumerWarps);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (warp_group == kMappedConsumers) {
    ReleaseRegisters<kProducerRegisters>();
    if constexpr (kListed) {
      ProduceListedRows<kRight>(p, shared, extent);
    } else if (thread == kMappedConsumers * kWarpGroupThreads) {
      ProduceBoxes<kOver, kRight>(p, shared, extent);
    }
    return;
  }
  ClaimRegisters<kConsumerRegisters>();
  RingPosition<kMappedStages> at;
  for (int tile = static_cast<int>(blockIdx.x); tile < extent.tiles(); tile += static_cast<int>(gridDim.x)) {
    float d[kMappedColumns / 2];
    Multiply<kOver, kRight, kListed>(shared, extent, warp_group, at, d);
    PutTile<kOver>(p, shared, extent, MappedTileAt(tile, extent.row_tiles, extent.column_tiles), warp_group, d);
  }
  if constexpr (kOver == MappedOver::kRows) WaitStores();
}

template <MappedOver kOver, Summed kRight, bool kListed>
cudaError_t LaunchKernel(const StreamTarget& target, const MappedParameters& parameters, int most_tiles) {
  constexpr auto kKernel = MappedGemmHopperKernel<kOver, kRight, kListed>;
  constexpr int kBytes = static_cast<int>(sizeof(MappedShared)) + kSwizzleAtomBytes;
  const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const int blocks = std::min(target.multiprocessors, most_tiles);
  cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(blocks)), dim3(kMappedThreads));
  config.dynamicSmemBytes = kBytes;
  return cudaLaunchKernelEx(&config, kKernel, parameters);
}

Status Launch(const StreamTarget& target, const MappedGemmArgs& args) {
  const GemmArgs& g = args.gemm;
  const bool over_rows = args.over == MappedOver::kRows;
  MappedParameters p{.a = static_cast<const BFloat16*>(g.a.data),
                     .a_ld = g.a.ld,
                     .rows = static_cast<int>(g.c.rows),
                     .columns = static_cast<int>(g.c.cols),
                     .depth = static_cast<int>(g.a.cols),
                     .map = args.map,
                     .epilogue = GemmEpilogueOf<float, BFloat16>(g),
                     .scattered = static_cast<BFloat16*>(args.scattered.data),
                     .scattered_ld = args.scattered.ld};
  if (!args.gather_a) {
    LYCIA_ASSIGN_OR_RETURN(p.left, EncodeTensorMap(MappedLeftMap(args), g.a.data));
  }
  LYCIA_ASSIGN_OR_RETURN(p.right, EncodeTensorMap(MappedRightMap(args), g.b.data));
  const std::int64_t most_rows = over_rows ? std::min(g.c.rows, args.map.extent) : g.c.rows;
  const int most_tiles = MappedTiles(most_rows, kMappedRows) * MappedTiles(g.c.cols, kMappedColumns);
  const cudaError_t error = !over_rows      ? LaunchKernel<MappedOver::kDepth, Summed::kRows, false>(target, p, most_tiles)
                            : g.transpose_b ? LaunchKernel<MappedOver::kRows, Summed::kColumns, false>(target, p, most_tiles)
                            : args.gather_a ? LaunchKernel<MappedOver::kRows, Summed::kRows, true>(target, p, most_tiles)
                                            : LaunchKernel<MappedOver::kRows, Summed::kRows, false>(target, p, most_tiles);
  if (error == cudaSuccess) return OkStatus();
  return ToStatus(error, "MappedGemm on Hopper", __FILE__, __LINE__, args.map.ToString());
}

}  // namespace

bool MappedGemmHopper(Stream& stream, const MappedGemmArgs& args) {
  const StreamTarget target = TargetOf(stream);
  if (target.capability != kHopperCapability || RejectMappedHopper(args) != nullptr) return false;
  const Status status = Launch(target, args);
  if (!status.ok()) stream.Fail(status);
  return true;
}

}  // namespace lycia::cuda
