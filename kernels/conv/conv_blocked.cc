#include "kernels/conv/conv_blocked.h"

#include "kernels/conv/patches.h"
#include "kernels/gemm/driver.h"
#include "kernels/gemm/matrix_source.h"

namespace lycia::cpu {
namespace {

std::int64_t Aligned(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

// One product of a convolution without its image: the filters that it multiplies with, and where their packed form stands.
struct FilterPart {
  std::int64_t group = 0;
  ConvPhase height, width;  // of the input positions; for an input gradient
  FilterRuns filters;
  Runs cols;
  std::int64_t packed_at = 0;  // bytes
};

// f(part) for every group of a forward, and every group and phase of an input gradient. Returns the bytes of all packed parts.
template <typename F>
std::int64_t ForEachPart(const MicroKernel& kernel, ConvUse use, const ConvShape& s, const void* weight, bool bf16, const F& f) {
  const std::int64_t tap = s.group_C(), row = s.S() * tap, filter = s.R() * row;
  std::int64_t bytes = 0;
  const auto add = [&](FilterPart part) {
    part.packed_at = bytes;
    bytes += Aligned(PackedBytes(kernel, part.cols, part.filters.depth));
    f(part);
  };
  for (std::int64_t group = 0; group < s.groups; ++group) {
    // Without a weight only sizes are wanted.
    const auto at = [&](std::int64_t elements) -> const char* {
      return weight == nullptr ? nullptr : static_cast<const char*>(weight) + elements * (bf16 ? 2 : 4);
    };
    const std::int64_t first = group * s.group_K() * filter;
    if (use == ConvUse::kForward) {
      const Patches patches = PatchesOfInput(s, nullptr, bf16, 0);
      const Runs runs = patches.runs();
      add({.group = group,
           .filters =
               {.data = at(first), .bf16 = bf16, .k_contiguous = true, .depth = runs, .taps_w = 1, .down = runs.length, .ld = filter},
           .cols = {.length = s.group_K()}});
      continue;
    }
    for (std::int64_t y = 0; y < s.height.stride; ++y) {
      for (std::int64_t x = 0; x < s.width.stride; ++x) {
        const ConvPhase height = PhaseOf(s.height, y), width = PhaseOf(s.width, x);
        add({.group = group,
             .height = height,
             .width = width,
             .filters = {.data = at(first + height.first_tap * row + width.first_tap * tap),
                         .bf16 = bf16,
                         .k_contiguous = false,
                         .depth = {height.taps * width.taps, s.group_K()},
                         .taps_w = std::max<std::int64_t>(width.taps, 1),
                         .down = -height.tap_step * row,
                         .right = -width.tap_step * tap,
                         .ld = filter},
             .cols = {.length = s.group_C()}});
      }
    }
  }
  return bytes;
}

// A matrix [rows, ld] from column `col` on, and a vector from there.
EpilogueOperand FromColumn(const ConstTensor& tensor, std::int64_t ld, std::int64_t col) {
  if (tensor.data == nullptr) return {};
  const bool bf16 = tensor.dtype == DType::kBF16;
  return {static_cast<char*>(const_cast<void*>(tensor.data)) + col * (bf16 ? 2 : 4), ld, bf16};
}

const void* PackedAt(const PackedConvWeight& packed, const FilterPart& part) {
  return packed.data == nullptr ? nullptr : static_cast<const char*>(packed.data) + part.packed_at;
}

}  // namespace

void ConvForwardBlocked(const MicroKernel& kernel, const ConvForwardArgs& args, ThreadPool& pool) {
  const ConvShape& s = args.shape;
  const bool bf16 = args.in.dtype == DType::kBF16;
  ForEachPart(kernel, ConvUse::kForward, s, args.weight.data, bf16, [&](const FilterPart& part) {
    const PatchesByPosition patches = {PatchesOfInput(s, args.in.data, bf16, part.group)};
    const std::int64_t first = part.group * s.group_K();
    MultiplyBlocked(kernel,
                    {.rows = patches.patches.positions(),
                     .cols = part.cols,
                     .depth = part.filters.depth,
                     .a = PackerOf(patches, false, patches.InPlace(kernel)),
                     .b = PackerOf(part.filters, false),
                     .packed_b = PackedAt(args.packed, part),
                     .to = {.c = FromColumn(args.out, s.K, first),
                            .scale = FromColumn(args.scale, 0, first),
                            .bias = FromColumn(args.bias, 0, first),
                            .relu = args.relu,
                            .residual = FromColumn(args.residual, s.K, first)}},
                    pool);
  });
}

void ConvBackwardInputBlocked(const MicroKernel& kernel, const ConvBackwardInputArgs& args, ThreadPool& pool) {
  const ConvShape& s = args.shape;
  const bool bf16 = args.dout.dtype == DType::kBF16;
  ForEachPart(kernel, ConvUse::kBackwardInput, s, args.weight.data, bf16, [&](const FilterPart& part) {
    const PatchesByPosition patches = {PatchesOfOutput(s, part.height, part.width, args.dout.data, bf16, part.group)};
    if (patches.patches.positions() == 0 || (args.accumulate && part.filters.depth.count == 0)) return;
    const std::int64_t pixel = part.height.phase * s.W() + part.width.phase, right = s.width.stride * s.C;
    const bool grid = s.height.stride > 1 || s.width.stride > 1;
    MultiplyBlocked(kernel,
                    {.rows = patches.patches.positions(),
                     .cols = part.cols,
                     .depth = part.filters.depth,
                     .a = PackerOf(patches, false, patches.InPlace(kernel)),
                     .b = PackerOf(part.filters, true),
                     .packed_b = PackedAt(args.packed, part),
                     .to = {.c = FromColumn(args.din, right, pixel * s.C + part.group * s.group_C()), .add_c = args.accumulate},
                     .grid = {.rows = grid ? part.height.count : 0,
                              .cols = grid ? part.width.count : 0,
                              .plane = s.H() * s.W() * s.C,
                              .down = s.height.stride * s.W() * s.C}},
                    pool);
  });
}

void ConvBackwardWeightBlocked(const MicroKernel& kernel, const ConvBackwardWeightArgs& args, ThreadPool& pool) {
  const ConvShape& s = args.shape;
  const bool bf16 = args.in.dtype == DType::kBF16;
  const std::int64_t filter = s.R() * s.S() * s.group_C();
  for (std::int64_t group = 0; group < s.groups; ++group) {
    const PatchesByChannel patches = {PatchesOfInput(s, args.in.data, bf16, group)};
    const std::int64_t positions = patches.patches.positions(), first = group * s.group_K();
    const MatrixSource dout =
        MatrixAsA({static_cast<const char*>(args.dout.data) + first * (bf16 ? 2 : 4), args.dout.dtype, positions, s.group_K(), s.K}, true);
    MultiplyBlocked(kernel,
                    {.rows = s.group_K(),
                     .cols = patches.patches.runs(),
                     .depth = {.length = positions},
                     .a = PackerOf(dout, true),
                     .b = PackerOf(patches, true, patches.InPlace(kernel)),
                     .to = {.c = FromColumn(args.dweight, filter, first * filter), .add_c = true}},
                    pool);
  }
}

std::int64_t PackedConvBytesBlocked(const MicroKernel& kernel, ConvUse use, const ConvShape& shape) {
  return ForEachPart(kernel, use, shape, nullptr, false, [](const FilterPart&) {});
}

void PackConvWeightBlocked(const MicroKernel& kernel, const PackConvWeightArgs& args, ThreadPool& pool) {
  ForEachPart(kernel, args.to.use, args.to.shape, args.weight.data, args.to.dtype == DType::kBF16, [&](const FilterPart& part) {
    PackBlocked(kernel,
                {.cols = part.cols,
                 .depth = part.filters.depth,
                 .b = PackerOf(part.filters, !part.filters.k_contiguous),
                 .to = static_cast<char*>(args.to.data) + part.packed_at},
                pool);
  });
}

}  // namespace lycia::cpu
