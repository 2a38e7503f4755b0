// Convolution forward and gradient of the input on Hopper (sm_90a), bf16 with f32 sums, as products of patches with filters whose operands
// the copy engine reads where they lie: nothing is lowered, no workspace.
//
// A block computes 128 positions x 128 columns (64 where there are no more) of a group. Its producer, one thread, streams steps of 64
// channels of one tap through a ring of four stages: a copy of 128 pixels in im2col mode, and a box of filters. Two consumer warp groups
// multiply 64 positions each (wgmma) and keep one product in flight behind the next. Filters lie with the summed index along the rows'
// 64 columns forward; for the input gradient the rows are summed, and the tensor cores transpose.
//
// Shared memory: 4 x 32 KiB; registers: 64 sums a thread. Bytes moved a step: 32 KiB for 2 * 128 * 128 * 64 operations, 64 a byte from L2;
// of memory each image once, as far as the R S readings of a pixel meet in L2. Bound by the tensor cores where R S C is long, by memory in
// 1x1 layers. Sums go from registers to memory by pairs, 16 bytes in a row of a quarter warp. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/conv/conv_epilogue.cuh"
#include "kernels/conv/conv_hopper.h"
#include "kernels/conv/conv_hopper_cuda.h"
#include "kernels/cuda/mbarrier.h"
#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/tensor_map_cuda.h"
#include "kernels/cuda/tma_cuda.h"
#include "kernels/cuda/warp_group.h"
#include "kernels/cuda/wgmma.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// ConvProduct in device code.
struct HopperParameters {
  CUtensorMap images, filters;
  int positions, rows, cols, columns, channels, filters_of_group;
  int first_h, first_w, step_h, step_w;  // of base pixels
  int taps_h, taps_w, tap_h, tap_w, first_tap_h, first_tap_w, tap_step_h, tap_step_w;
  int to_H, to_W, to_h, to_w, to_step_h, to_step_w;
  ConvEpilogue<BFloat16> epilogue;  // of pixels [N, to_H, to_W] and groups * columns
};

template <int kColumns>
struct alignas(1024) Stage {
  char patches[kConvRows * kConvDepth * 2];
  char filters[kColumns * kConvDepth * 2];
};
template <int kColumns>
struct Shared {
  Stage<kColumns> stages[kConvStages];
  Barrier full[kConvStages], empty[kConvStages];
};

constexpr int kConsumerWarps = 8;
constexpr int kConsumers = 2;

template <int kColumns, Summed kFilters>
__device__ void Produce(const HopperParameters& p, Shared<kColumns>& shared, int first_row, int first_column, int group) {
  const int line = first_row / p.cols, n = line / p.rows;
  const BoxCorner base{0, p.first_w + (first_row - line * p.cols) * p.step_w, p.first_h + (line - n * p.rows) * p.step_h, n};
  RingPosition<kConvStages> at;
  for (int r = 0; r < p.taps_h; ++r) {
    for (int s = 0; s < p.taps_w; ++s) {
      const int filter_r = p.first_tap_h + r * p.tap_step_h, filter_s = p.first_tap_w + s * p.tap_step_w;
      for (int c = 0; c < p.channels; c += kConvDepth, at.Next()) {
        Stage<kColumns>& stage = shared.stages[at.stage];
        Barrier& full = shared.full[at.stage];
        shared.empty[at.stage].Wait(at.parity() ^ 1);
        full.ArriveExpecting(ConvStageBytes(kColumns));
        LoadPatches(stage.patches, &p.images, {group * p.channels + c, base.x1, base.x2, base.x3}, {s * p.tap_w, r * p.tap_h}, full);
        if constexpr (kFilters == Summed::kColumns) {
          LoadBox(stage.filters, &p.filters, {c, filter_s, filter_r, group * p.filters_of_group + first_column}, full);
        } else {
#pragma unroll
          for (int panel = 0; panel < kColumns / kPanelColumns; ++panel) {
            LoadBox(stage.filters + panel * kConvDepth * kPanelRowBytes, &p.filters,
                    {first_column + panel * kPanelColumns, filter_s, filter_r, group * p.filters_of_group + c}, full);
          }
        }
      }
    }
  }
}

// d += the products of all steps. Rows 64 consumer .. + 63 of the tile.
template <int kColumns, Summed kFilters>
__device__ void Consume(const HopperParameters& p, Shared<kColumns>& shared, int consumer, float (&d)[kColumns / 2]) {
  const int steps = p.taps_h * p.taps_w * (p.channels / kConvDepth);
  const bool elected = threadIdx.x % kWarpThreads == 0;
  RingPosition<kConvStages> at;
  for (int step = 0; step < steps; ++step, at.Next()) {
    Stage<kColumns>& stage = shared.stages[at.stage];
    shared.full[at.stage].Wait(at.parity());
    const std::uint64_t a = RowsDescriptor(SharedAddress(stage.patches) + static_cast<unsigned>(consumer * 64 * kPanelRowBytes));
    const std::uint64_t b = kFilters == Summed::kColumns ? RowsDescriptor(SharedAddress(stage.filters))
                                                         : ColumnsDescriptor(SharedAddress(stage.filters), kConvDepth);
    Pin(d);
    FenceOperands();
#pragma unroll
    for (int k = 0; k < kConvDepth / kStepK; ++k) {
      const int b_bytes = kFilters == Summed::kColumns ? RowsStepBytes(kColumns, k) : ColumnsStepBytes(k);
      Wgmma<kColumns>::template Shared<Summed::kColumns, kFilters>(d, Advance(a, RowsStepBytes(kConvRows, k)), Advance(b, b_bytes), true);
    }
    CommitProducts();
    WaitProducts<1>();  // the step before has read its stage
    if (step > 0 && elected) shared.empty[at.Before().stage].Arrive();
  }
  WaitProducts<0>();
  Pin(d);
}

// The sums of two neighbouring columns of one position.
__device__ __forceinline__ void StorePair(const HopperParameters& p, std::int64_t pixel, int first_column, int column, float low,
                                          float high) {
  if (column >= p.columns) return;  // columns are even
  const std::int64_t k = first_column + column;
  const ConvEpilogue<BFloat16>& e = p.epilogue;
  low = e.Apply(pixel, k, low);
  high = e.Apply(pixel, k + 1, high);
  const std::int64_t at = pixel * e.K + k;
  if (e.out_summed_type) {
    *reinterpret_cast<float2*>(static_cast<float*>(e.out) + at) = make_float2(low, high);
  } else {
    *reinterpret_cast<std::uint32_t*>(static_cast<BFloat16*>(e.out) + at) = PackBf16(low, high);
  }
}

template <int kColumns, Summed kFilters>
__global__ void __launch_bounds__(kConvHopperThreads, 1) ConvHopperKernel(const __grid_constant__ HopperParameters p) {
  extern __shared__ char memory[];
  const std::uint32_t skew = SharedAddress(memory) % kSwizzleAtomBytes;
  auto& shared = *reinterpret_cast<Shared<kColumns>*>(memory + (skew == 0 ? 0 : kSwizzleAtomBytes - skew));
  const int thread = static_cast<int>(threadIdx.x), warp_group = thread / kWarpGroupThreads;
  const int first_row = static_cast<int>(blockIdx.x) * kConvRows, first_column = static_cast<int>(blockIdx.y) * kColumns,
            group = static_cast<int>(blockIdx.z);
  if (thread == 0) {
    if (p.taps_h > 0) {  // else there are no maps
      PrefetchTensorMap(&p.images);
      PrefetchTensorMap(&p.filters);
    }
#pragma unroll
    for (int i = 0; i < kConvStages; ++i) {
      shared.full[i].Init(1);
      shared.empty[i].Init(kConsumerWarps);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (warp_group == kConsumers) {
    if (thread == kConsumers * kWarpGroupThreads) Produce<kColumns, kFilters>(p, shared, first_row, first_column, group);
    return;
  }
  float d[kColumns / 2] = {};
  Consume<kColumns, kFilters>(p, shared, warp_group, d);
  const int lane = thread % kWarpThreads, warp = thread % kWarpGroupThreads / kWarpThreads;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int m = first_row + warp_group * 64 + warp * 16 + lane / 4 + half * 8;
    if (m >= p.positions) break;
    const int line = m / p.cols, n = line / p.rows;
    const std::int64_t h = p.to_h + (line - n * p.rows) * p.to_step_h, w = p.to_w + (m - line * p.cols) * p.to_step_w;
    const std::int64_t pixel = (std::int64_t{n} * p.to_H + h) * p.to_W + w;
#pragma unroll
    for (int i = 0; i < kColumns / 8; ++i) {
      const int column = first_column + 8 * i + lane % 4 * 2;
      StorePair(p, pixel, group * p.columns, column, d[4 * i + 2 * half], d[4 * i + 2 * half + 1]);
    }
  }
}

// Pairs are stored at once.
bool AllowsPairs(const Tensor& out) {
  return reinterpret_cast<std::uintptr_t>(out.data) % static_cast<std::uintptr_t>(2 * SizeOf(out.dtype)) == 0;
}

template <int kColumns, Summed kFilters>
cudaError_t LaunchKernel(const StreamTarget& target, const dim3& grid, const HopperParameters& parameters) {
  constexpr auto kKernel = ConvHopperKernel<kColumns, kFilters>;
  static_assert(static_cast<int>(sizeof(Shared<kColumns>)) + kSwizzleAtomBytes <= kSharedPerBlock);
  const int bytes = static_cast<int>(sizeof(Shared<kColumns>)) + kSwizzleAtomBytes;
  const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = LaunchConfig(target, grid, dim3(kConvHopperThreads));
  config.dynamicSmemBytes = static_cast<std::size_t>(bytes);
  return cudaLaunchKernelEx(&config, kKernel, parameters);
}

template <Summed kFilters>
Status Launch(const StreamTarget& target, const ConvShape& s, const ConvProduct& p, const void* images, const void* filters,
              const ConvEpilogue<BFloat16>& epilogue) {
  if (p.positions() == 0) return OkStatus();
  const int columns = ConvColumns(p.columns);
  HopperParameters parameters{};
  if (p.steps() > 0) {
    LYCIA_ASSIGN_OR_RETURN(parameters.images, EncodeIm2colMap(p.images, images));
    LYCIA_ASSIGN_OR_RETURN(parameters.filters,
                           EncodeTensorMap(ConvFilterMap(s, kFilters == Summed::kColumns ? columns : kConvDepth), filters));
  }
  const auto number = [](std::int64_t n) { return static_cast<int>(n); };
  parameters.positions = number(p.positions());
  parameters.rows = number(p.rows);
  parameters.cols = number(p.cols);
  parameters.columns = number(p.columns);
  parameters.channels = number(p.channels);
  parameters.filters_of_group = number(s.group_K());
  parameters.first_h = number(p.images.lower_h);
  parameters.first_w = number(p.images.lower_w);
  parameters.step_h = number(p.images.step_h);
  parameters.step_w = number(p.images.step_w);
  parameters.taps_h = number(p.taps_h);
  parameters.taps_w = number(p.taps_w);
  parameters.tap_h = number(p.tap_h);
  parameters.tap_w = number(p.tap_w);
  parameters.first_tap_h = number(p.first_tap_h);
  parameters.first_tap_w = number(p.first_tap_w);
  parameters.tap_step_h = number(p.tap_step_h);
  parameters.tap_step_w = number(p.tap_step_w);
  parameters.to_H = number(p.to_H);
  parameters.to_W = number(p.to_W);
  parameters.to_h = number(p.to_h);
  parameters.to_w = number(p.to_w);
  parameters.to_step_h = number(p.to_step_h);
  parameters.to_step_w = number(p.to_step_w);
  parameters.epilogue = epilogue;
  const auto tiles = [](std::int64_t lanes, int tile) { return static_cast<unsigned>((lanes + tile - 1) / tile); };
  const dim3 grid(tiles(p.positions(), kConvRows), tiles(p.columns, columns), static_cast<unsigned>(s.groups));
  const cudaError_t error =
      columns == 64 ? LaunchKernel<64, kFilters>(target, grid, parameters) : LaunchKernel<128, kFilters>(target, grid, parameters);
  if (error == cudaSuccess) return OkStatus();
  return ToStatus(error, "convolution on Hopper", __FILE__, __LINE__, s.ToString());
}

std::uintptr_t AddressOf(const void* data) { return reinterpret_cast<std::uintptr_t>(data); }

}  // namespace

bool ConvForwardHopper(Stream& stream, const ConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  const StreamTarget target = TargetOf(stream);
  const ConvProduct product = ForwardProductOf(s);
  if (args.in.dtype != DType::kBF16 || !AllowsPairs(args.out)) return false;
  const TensorMap filters = ConvFilterMap(s, ConvColumns(product.columns));
  if (RejectConvHopper(s, product, filters, AddressOf(args.in.data), AddressOf(args.weight.data)) != nullptr) return false;
  const Status status = Launch<Summed::kColumns>(target, s, product, args.in.data, args.weight.data, EpilogueOf<BFloat16>(args));
  if (!status.ok()) stream.Fail(status);
  return true;
}

bool ConvBackwardInputHopper(Stream& stream, const ConvBackwardInputArgs& args) {
  const ConvShape& s = args.shape;
  const StreamTarget target = TargetOf(stream);
  if (args.dout.dtype != DType::kBF16 || !AllowsPairs(args.din)) return false;
  const auto for_each_phase = [&](const auto& f) {
    for (std::int64_t h = 0; h < s.height.stride; ++h) {
      for (std::int64_t w = 0; w < s.width.stride; ++w) {
        if (!f(InputProductOf(s, h, w))) return false;
      }
    }
    return true;
  };
  const TensorMap filters = ConvFilterMap(s, kConvDepth);
  const bool taken = s.height.stride * s.width.stride <= kConvMostPhases && for_each_phase([&](const ConvProduct& product) {
                       return RejectConvHopper(s, product, filters, AddressOf(args.dout.data), AddressOf(args.weight.data)) == nullptr;
                     });
  if (!taken) return false;
  // What din holds is added as a residual is: each element is read and written by one thread.
  const ConvEpilogue<BFloat16> epilogue{.K = s.C,
                                        .scale = {nullptr, false},
                                        .bias = {nullptr, false},
                                        .residual = {args.accumulate ? args.din.data : nullptr, false},
                                        .relu = false,
                                        .out = args.din.data,
                                        .out_summed_type = false};
  for_each_phase([&](const ConvProduct& product) {
    const Status status = Launch<Summed::kRows>(target, s, product, args.dout.data, args.weight.data, epilogue);
    if (!status.ok()) stream.Fail(status);
    return status.ok();
  });
  return true;
}

}  // namespace lycia::cuda
