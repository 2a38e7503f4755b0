// Finds rows that are alike, and makes a partition of them: of a matrix's rows, or of the patches that a convolution multiplies (read from
// the image; no lowering buffer).
#ifndef LYCIA_KERNELS_REUSE_BUILD_INDEX_MAP_H_
#define LYCIA_KERNELS_REUSE_BUILD_INDEX_MAP_H_

#include <cstdint>

#include "kernels/conv/conv_shape.h"
#include "kernels/dispatch.h"
#include "kernels/reuse/index_map.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

enum class ReusePolicy : std::uint8_t {
  kExact,      // bits equal: -0 is not 0
  kQuantized,  // equal after round(x / delta), ties to even
  kLsh,        // equal h_j = floor((a_j x + b_j) / width) for j < H: E2LSH, Datar, Immorlica, Indyk & Mirrokni 2004
};

// When two rows are alike. Under every policy, rows with equal bits are, and a row with a NaN is like no other. Quantized, an infinity
// equals itself and every quotient beyond the largest number; projections that are not finite make a row like none but its equals in bits.
// lsh: sums of a projection may be rounded differently by another instruction set, so that clusters may differ between machines, never
// between numbers of threads.
struct ReuseRule {
  ReusePolicy policy = ReusePolicy::kExact;
  double delta = 0;         // quantized; the rows are multiplied with its reciprocal, rounded to f32 (f64)
  double width = 0;         // lsh, w
  ConstMatrix projections;  // lsh: a, [H, K] of the rows' type; for patches K is (R, S, C)
  ConstTensor shifts;       // lsh: b / width, [H] f64, in [0, 1)
};

// H random projections for kLsh: a normal, shifts uniform, functions of the seed alone.
inline constexpr std::int64_t kProjections = 8;
struct MakeProjectionsArgs {
  std::uint64_t seed = 0;
  Tensor projections;  // [H, K] f32, bf16, f64 or, for a GPU, f16, =
  Tensor shifts;       // [H] f64, =
};

struct BuildIndexMapArgs {
  ConstMatrix rows;  // [M, K] f32, bf16 or f64
  ReuseRule rule;
  IndexMap map;               // =; a partition of M rows
  void* workspace = nullptr;  // 64-byte aligned, BuildIndexMapBytes
};
// For any device.
std::int64_t BuildIndexMapBytes(const ReuseRule& rule, DType dtype, std::int64_t rows);

// A broken promise (CHECK) unless the rule serves rows of `depth` elements of dtype.
void CheckRule(const ReuseRule& rule, DType dtype, std::int64_t depth);
// Of the cells of all rows under kLsh, a part of the workspace; 0 under other policies.
std::int64_t CellBytes(const ReuseRule& rule, DType dtype, std::int64_t rows);

// Rows are patches in the order of the outputs: (n, p, q). What lies outside an image counts as zeros, also in bits. One group.
struct BuildPatchMapArgs {
  ConvShape shape;
  ConstTensor in;  // [N, H, W, C] f32, bf16 or f64
  ReuseRule rule;
  IndexMap map;               // =; a partition of N P Q rows
  void* workspace = nullptr;  // 64-byte aligned, BuildPatchMapBytes
};
// For any device.
std::int64_t BuildPatchMapBytes(const ReuseRule& rule, DType dtype, const ConvShape& shape);
// Of the signatures of pixels, and a pixel of zeros: the first part of that.
std::int64_t PatchPlaneBytes(DType dtype, const ConvShape& shape);

// Clusters are numbered by their first rows: the same map for any number of threads. Nothing is allocated.
namespace cpu {
void MakeProjections(Stream& stream, const MakeProjectionsArgs& args);
void BuildIndexMap(Stream& stream, const BuildIndexMapArgs& args);
void BuildPatchMap(Stream& stream, const BuildPatchMapArgs& args);
}  // namespace cpu
// The CPU's map, whatever thread comes first; under kLsh but for projections that rounding puts across the border of a cell.
namespace cuda {
void BuildIndexMap(Stream& stream, const BuildIndexMapArgs& args);
void BuildPatchMap(Stream& stream, const BuildPatchMapArgs& args);
}  // namespace cuda

inline void MakeProjections(Stream& stream, const MakeProjectionsArgs& args) {
  DispatchCpuOnly(stream, "MakeProjections", [&] { cpu::MakeProjections(stream, args); });
}
inline void BuildIndexMap(Stream& stream, const BuildIndexMapArgs& args) {
  Dispatch(
      stream, [&] { cpu::BuildIndexMap(stream, args); }, [&] { cuda::BuildIndexMap(stream, args); });
}
inline void BuildPatchMap(Stream& stream, const BuildPatchMapArgs& args) {
  Dispatch(
      stream, [&] { cpu::BuildPatchMap(stream, args); }, [&] { cuda::BuildPatchMap(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_BUILD_INDEX_MAP_H_
