// The ways of a mapped product on CUDA. All take what CheckMappedGemm has seen, on a partition of rows.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_GEMM_CUDA_H_
#define LYCIA_KERNELS_REUSE_MAPPED_GEMM_CUDA_H_

#include "kernels/reuse/mapped_gemm.h"

namespace lycia::cuda {

// Any operands; c alone, never scattered.
void MappedGemmPlain(Stream& stream, const MappedGemmArgs& args);
// False, with nothing done: not on this device, or RejectMappedHopper has a reason. Scatters where that is asked for.
bool MappedGemmHopper(Stream& stream, const MappedGemmArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_MAPPED_GEMM_CUDA_H_
