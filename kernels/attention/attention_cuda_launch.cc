#include "kernels/attention/attention_cuda_launch.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/shared_tile.h"
#include "runtime/device/compute_capability.h"

namespace lycia::cuda {

TileOrder ChooseTileOrder(const AttentionProblem& p, int tile_queries, std::int64_t l2_bytes) {
  const std::int64_t bytes = 2 * p.keys * p.head_dim * 2 * p.kv_heads / p.heads;  // keys and values, shared by H / G heads
  const std::int64_t heads = p.samples * p.heads;
  const std::int64_t fit = std::max<std::int64_t>(1, l2_bytes / 2 / std::max<std::int64_t>(1, bytes));
  return {.query_tiles = static_cast<int>((p.queries + tile_queries - 1) / tile_queries),
          .heads = static_cast<int>(heads),
          .section = static_cast<int>(std::min(heads, fit))};
}

const char* RejectHopper(const AttentionProblem& p, int capability) {
  if (capability != kHopperCapability) return "the kernel is machine code of compute capability 9.0";
  if (p.dtype != DType::kBF16) return "the kernel is for bf16";
  if (p.head_dim != 64 && p.head_dim != 128) return "the kernel is for heads of 64 or 128 features";
  if (!(p.scale > 0)) return "the kernel keeps the largest unscaled score, so the scale must be positive";
  if (p.blocks.block != 0) return "the kernel has no block mask";
  if (!p.sequence_offsets.empty()) return "the kernel has no packed sequences";
  if (p.dropout.rate != 0) return "the kernel has no dropout";
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2,
                         kMostBlocks = 65535;  // of a grid's second and third dimension
  if (p.queries > kMost || p.keys > kMost) return "sizes are counted in 30 bits";
  if (p.heads > kMostBlocks || p.samples > kMostBlocks) return "a grid has at most 65,535 heads and samples";
  if (p.samples * p.heads * (std::max(p.queries, p.keys) / kGroupRows + 1) > kMost) return "tiles are counted in 30 bits";
  return nullptr;
}

const char* RejectHopperView(const ConstHeadsView& view) {
  constexpr std::int64_t kBytes = 16, kElements = kBytes / 2;
  const bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % kBytes == 0 && view.sample_stride % kElements == 0 &&
                       view.row_stride % kElements == 0 && view.head_stride % kElements == 0;
  return aligned ? nullptr : "the copy engine wants rows at multiples of 16 bytes";
}

ForwardTiling ChooseForwardTiling(const AttentionProblem& p) {
  if (p.head_dim == 64) return kForward64;
  return p.mask == MaskKind::kCausal ? kForward128Causal : kForward128;
}

TensorMap HeadsMap(const ConstHeadsView& view, std::int64_t samples, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
                   int rows) {
  return {.sizes = {head_dim, tokens, heads, samples},
          .strides = {view.row_stride * 2, view.head_stride * 2, view.sample_stride * 2},
          .box = {kPanelColumns, rows, 1, 1}};
}

}  // namespace lycia::cuda
