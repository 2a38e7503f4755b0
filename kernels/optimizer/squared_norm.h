// Sums of squares in f64 of fixed blocks, so that a gradient norm has the same bits however the tensor is cut over ranks, as long as it is
// cut at multiples of the block. A sum that is not finite tells of a gradient that is not.
#ifndef LYCIA_KERNELS_OPTIMIZER_SQUARED_NORM_H_
#define LYCIA_KERNELS_OPTIMIZER_SQUARED_NORM_H_

#include <cstdint>
#include <span>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

inline constexpr std::int64_t kSquaredNormBlock = 4096;

constexpr std::int64_t NumSquaredNormBlocks(std::int64_t elements) { return (elements + kSquaredNormBlock - 1) / kSquaredNormBlock; }

struct SquaredNormArgs {
  ConstTensor x;                 // [n] f32 or f64
  double* block_sums = nullptr;  // [NumSquaredNormBlocks(n)], =; block i has elements [4096 i, min(4096 (i + 1), n)). Device memory.
};

namespace cpu {
void SquaredNormBlocks(Stream& stream, const SquaredNormArgs& args);
}  // namespace cpu
namespace cuda {
void SquaredNormBlocks(Stream& stream, std::span<const SquaredNormArgs> segments);
}  // namespace cuda

// Each segment as if alone; on CUDA dozens in one launch.
inline void SquaredNormBlocks(Stream& stream, std::span<const SquaredNormArgs> segments) {
  const auto on_cpu = [&] {
    for (const SquaredNormArgs& segment : segments) cpu::SquaredNormBlocks(stream, segment);
  };
  Dispatch(stream, on_cpu, [&] { cuda::SquaredNormBlocks(stream, segments); });
}
inline void SquaredNormBlocks(Stream& stream, const SquaredNormArgs& args) {
  SquaredNormBlocks(stream, std::span<const SquaredNormArgs>(&args, 1));
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_OPTIMIZER_SQUARED_NORM_H_
