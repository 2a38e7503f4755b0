// Convolutions as products on the micro kernels of the matrix multiply: f32 and bf16.
#ifndef LYCIA_KERNELS_CONV_CONV_BLOCKED_H_
#define LYCIA_KERNELS_CONV_CONV_BLOCKED_H_

#include "kernels/conv/conv.h"
#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {

// args as they were checked, f32 or bf16.
void ConvForwardBlocked(const MicroKernel& kernel, const ConvForwardArgs& args, ThreadPool& pool);
void ConvBackwardInputBlocked(const MicroKernel& kernel, const ConvBackwardInputArgs& args, ThreadPool& pool);
// dbias is the caller's.
void ConvBackwardWeightBlocked(const MicroKernel& kernel, const ConvBackwardWeightArgs& args, ThreadPool& pool);

std::int64_t PackedConvBytesBlocked(const MicroKernel& kernel, ConvUse use, const ConvShape& shape);
void PackConvWeightBlocked(const MicroKernel& kernel, const PackConvWeightArgs& args, ThreadPool& pool);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CONV_CONV_BLOCKED_H_
