// The loops around a micro kernel: for each thread its part of c, in blocks; within a block the depth; within that, tile by tile.
#ifndef LYCIA_KERNELS_GEMM_DRIVER_H_
#define LYCIA_KERNELS_GEMM_DRIVER_H_

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/micro/micro_kernel.h"
#include "runtime/device/thread_pool.h"

namespace lycia::cpu {

// args as Gemm checked them, f32 or bf16.
void MultiplyBlocked(const MicroKernel& kernel, const GemmArgs& args, ThreadPool& pool);

// op(b) [k, n] as MultiplyBlocked wants it: panel after panel of kernel.cols columns, each WordsOf(k) deep.
std::int64_t PackedBytes(const MicroKernel& kernel, std::int64_t k, std::int64_t n);
void PackBlocked(const MicroKernel& kernel, const PackMatrixArgs& args, ThreadPool& pool);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_DRIVER_H_
