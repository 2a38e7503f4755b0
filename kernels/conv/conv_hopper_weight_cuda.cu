// Gradient of a convolution's weight on Hopper (sm_90a), bf16 with f32 sums: dweight[k][r, s, c] += sum over positions of dout[m][k] *
// patch[m][r, s, c], operands read where they lie.
//
// A block computes 128 filters x 128 channels (64 where there are no more) of one tap over a part of the positions (ConvWeightSplits). Its
// producer streams steps of 64 positions through a ring of four stages: boxes of dout, and copies of patches in im2col mode. Both operands
// are summed along their rows; the tensor cores transpose. Two consumer warp groups have 64 filters each. Sums of parts stand in the
// stream's workspace and are added in order, no atomics.
//
// Shared memory: 4 x 32 KiB; registers: 64 sums a thread. Bytes moved a step: 32 KiB for 2 * 128 * 128 * 64 operations, 64 a byte from L2,
// and 8 bytes a sum and part. Bound by the tensor cores in wide layers. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/conv/conv_hopper.h"
#include "kernels/conv/conv_hopper_cuda.h"
#include "kernels/conv/conv_splits.cuh"
#include "kernels/cuda/mbarrier.h"
#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/tensor_map_cuda.h"
#include "kernels/cuda/tma_cuda.h"
#include "kernels/cuda/warp_group.h"
#include "kernels/cuda/wgmma.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

struct WeightParameters {
  CUtensorMap dout, images;
  int positions, rows, cols;             // of the grid of outputs
  int first_h, first_w, step_h, step_w;  // of base pixels
  int taps_h, taps_w, tap_h, tap_w;
  int channels, filters, filter_tiles, splits, positions_each;
  float* to;              // [splits, K, R, S, C / groups]; one split: +=
  std::int64_t elements;  // of a split
};

constexpr int kPanelBytes = kWeightPositions * kPanelRowBytes;

template <int kColumns>
struct alignas(1024) Stage {
  char dout[kConvRows / kPanelColumns * kPanelBytes];
  char patches[kColumns / kPanelColumns * kPanelBytes];
};
template <int kColumns>
struct Shared {
  Stage<kColumns> stages[kConvStages];
  Barrier full[kConvStages], empty[kConvStages];
};
static_assert(sizeof(Stage<128>) == ConvStageBytes(128) && sizeof(Stage<64>) == ConvStageBytes(64));

constexpr int kConsumers = 2, kConsumerWarps = 8;

struct Place {
  int begin, end;  // positions
  int r, s, group, first_filter, first_channel, split;
};
template <int kColumns>
__device__ Place PlaceOf(const WeightParameters& p) {
  Place at{};
  const int part = static_cast<int>(blockIdx.z), tap = static_cast<int>(blockIdx.y);
  const int tile = static_cast<int>(blockIdx.x), channel_tile = tile / p.filter_tiles;
  at.group = part / p.splits, at.split = part - at.group * p.splits;
  at.r = tap / p.taps_w, at.s = tap - at.r * p.taps_w;
  at.first_filter = (tile - channel_tile * p.filter_tiles) * kConvRows;
  at.first_channel = channel_tile * kColumns;
  at.begin = at.split * p.positions_each;
  at.end = p.positions - at.begin < p.positions_each ? p.positions : at.begin + p.positions_each;
  return at;
}

template <int kColumns>
__device__ void Produce(const WeightParameters& p, Shared<kColumns>& shared, const Place& place) {
  RingPosition<kConvStages> at;
  for (int m = place.begin; m < place.end; m += kWeightPositions, at.Next()) {
    const int line = m / p.cols, n = line / p.rows;
    const int w = p.first_w + (m - line * p.cols) * p.step_w, h = p.first_h + (line - n * p.rows) * p.step_h;
    Stage<kColumns>& stage = shared.stages[at.stage];
    Barrier& full = shared.full[at.stage];
    shared.empty[at.stage].Wait(at.parity() ^ 1);
    full.ArriveExpecting(ConvStageBytes(kColumns));
#pragma unroll
    for (int panel = 0; panel < kConvRows / kPanelColumns; ++panel) {
      LoadBox(stage.dout + panel * kPanelBytes, &p.dout, {place.group * p.filters + place.first_filter + panel * kPanelColumns, m, 0, 0},
              full);
    }
#pragma unroll
    for (int panel = 0; panel < kColumns / kPanelColumns; ++panel) {
      LoadPatches(stage.patches + panel * kPanelBytes, &p.images,
                  {place.group * p.channels + place.first_channel + panel * kPanelColumns, w, h, n}, {place.s * p.tap_w, place.r * p.tap_h},
                  full);
    }
  }
}

template <int kColumns>
__device__ void Consume(Shared<kColumns>& shared, const Place& place, int consumer, float (&d)[kColumns / 2]) {
  const bool elected = threadIdx.x % kWarpThreads == 0;
  RingPosition<kConvStages> at;
  for (int m = place.begin; m < place.end; m += kWeightPositions, at.Next()) {
    Stage<kColumns>& stage = shared.stages[at.stage];
    shared.full[at.stage].Wait(at.parity());
    const std::uint64_t a = ColumnsDescriptor(SharedAddress(stage.dout + consumer * kPanelBytes), kWeightPositions);
    const std::uint64_t b = ColumnsDescriptor(SharedAddress(stage.patches), kWeightPositions);
    Pin(d);
    FenceOperands();
#pragma unroll
    for (int k = 0; k < kWeightPositions / kStepK; ++k) {
      Wgmma<kColumns>::template Shared<Summed::kRows, Summed::kRows>(d, Advance(a, ColumnsStepBytes(k)), Advance(b, ColumnsStepBytes(k)),
                                                                     true);
    }
    CommitProducts();
    WaitProducts<1>();  // the step before has read its stage
    if (m > place.begin && elected) shared.empty[at.Before().stage].Arrive();
  }
  WaitProducts<0>();
  Pin(d);
}

template <int kColumns>
__global__ void __launch_bounds__(kConvHopperThreads, 1) ConvWeightHopperKernel(const __grid_constant__ WeightParameters p) {
  extern __shared__ char memory[];
  const std::uint32_t skew = SharedAddress(memory) % kSwizzleAtomBytes;
  auto& shared = *reinterpret_cast<Shared<kColumns>*>(memory + (skew == 0 ? 0 : kSwizzleAtomBytes - skew));
  const int thread = static_cast<int>(threadIdx.x), warp_group = thread / kWarpGroupThreads;
  const Place place = PlaceOf<kColumns>(p);
  if (thread == 0) {
    PrefetchTensorMap(&p.dout);
    PrefetchTensorMap(&p.images);
#pragma unroll
    for (int i = 0; i < kConvStages; ++i) {
      shared.full[i].Init(1);
      shared.empty[i].Init(kConsumerWarps);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (warp_group == kConsumers) {
    if (thread == kConsumers * kWarpGroupThreads) Produce(p, shared, place);
    return;
  }
  float d[kColumns / 2] = {};
  Consume(shared, place, warp_group, d);
  const int lane = thread % kWarpThreads, warp = thread % kWarpGroupThreads / kWarpThreads;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int filter = place.first_filter + warp_group * 64 + warp * 16 + lane / 4 + half * 8;
    if (filter >= p.filters) break;
    const std::int64_t row = (std::int64_t{place.group} * p.filters + filter) * p.taps_h * p.taps_w + place.r * p.taps_w + place.s;
    float* const to = p.to + (p.splits == 1 ? 0 : place.split * p.elements) + row * p.channels;
#pragma unroll
    for (int i = 0; i < kColumns / 8; ++i) {
      const int c = place.first_channel + 8 * i + lane % 4 * 2;
      if (c >= p.channels) break;  // channels are a multiple of 8
      float2 pair = make_float2(d[4 * i + 2 * half], d[4 * i + 2 * half + 1]);
      float2* const at = reinterpret_cast<float2*>(to + c);
      if (p.splits == 1) pair.x += at->x, pair.y += at->y;
      *at = pair;
    }
  }
}

template <int kColumns>
cudaError_t LaunchKernel(const StreamTarget& target, const dim3& grid, const WeightParameters& parameters) {
  constexpr auto kKernel = ConvWeightHopperKernel<kColumns>;
  constexpr int kBytes = static_cast<int>(sizeof(Shared<kColumns>)) + kSwizzleAtomBytes;
  static_assert(kBytes <= kSharedPerBlock);
  const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = LaunchConfig(target, grid, dim3(kConvHopperThreads));
  config.dynamicSmemBytes = kBytes;
  return cudaLaunchKernelEx(&config, kKernel, parameters);
}

Status Launch(Stream& stream, const StreamTarget& target, const ConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  const ConvProduct product = WeightProductOf(s);
  const ConvSplits splits = ConvWeightSplits(s, kKernelWorkspaceBytes);
  const auto number = [](std::int64_t n) { return static_cast<int>(n); };
  WeightParameters p{};
  LYCIA_ASSIGN_OR_RETURN(p.dout, EncodeTensorMap(ConvGradientMap(s), args.dout.data));
  LYCIA_ASSIGN_OR_RETURN(p.images, EncodeIm2colMap(product.images, args.in.data));
  p.positions = number(product.positions());
  p.rows = number(product.rows);
  p.cols = number(product.cols);
  p.first_h = number(product.images.lower_h);
  p.first_w = number(product.images.lower_w);
  p.step_h = number(product.images.step_h);
  p.step_w = number(product.images.step_w);
  p.taps_h = number(product.taps_h);
  p.taps_w = number(product.taps_w);
  p.tap_h = number(product.tap_h);
  p.tap_w = number(product.tap_w);
  p.channels = number(s.group_C());
  p.filters = number(s.group_K());
  p.filter_tiles = number(ConvFilterTiles(s));
  p.splits = splits.splits;
  p.positions_each = number(splits.depth_each);
  auto* const partial = static_cast<float*>(target.kernel_workspace);
  p.to = splits.splits == 1 ? args.dweight.as<float>() : partial;
  p.elements = args.dweight.elements();
  const int columns = ConvColumns(s.group_C());
  const dim3 grid(static_cast<unsigned>(ConvFilterTiles(s) * ConvChannelTiles(s)), static_cast<unsigned>(s.R() * s.S()),
                  static_cast<unsigned>(s.groups * splits.splits));
  const cudaError_t error = columns == 64 ? LaunchKernel<64>(target, grid, p) : LaunchKernel<128>(target, grid, p);
  if (error != cudaSuccess) return ToStatus(error, "ConvBackwardWeight on Hopper", __FILE__, __LINE__, s.ToString());
  if (splits.splits > 1) LaunchAddSplits(stream, partial, args.dweight.as<float>(), p.elements, splits.splits);
  return OkStatus();
}

}  // namespace

bool ConvBackwardWeightHopper(Stream& stream, const ConvBackwardWeightArgs& args) {
  const StreamTarget target = TargetOf(stream);
  const auto address = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data); };
  if (args.in.dtype != DType::kBF16 || address(args.dweight.data) % sizeof(float2) != 0) return false;
  if (RejectConvWeightHopper(args.shape, address(args.in.data), address(args.dout.data)) != nullptr) return false;
  const Status status = Launch(stream, target, args);
  if (!status.ok()) stream.Fail(status);
  return true;
}

}  // namespace lycia::cuda
