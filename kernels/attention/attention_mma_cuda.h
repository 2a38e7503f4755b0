// The attention kernels on the tensor cores of sm_80 and later, and the readable reference of Hopper's: all masks, packed sequences and
// dropout (attention_mma_forward_cuda.cu, attention_mma_backward_cuda.cu).
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_CUDA_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_CUDA_H_

#include "kernels/attention/attention.h"

namespace lycia::cuda {

// Of problems and tensors that RejectMma and RejectMmaView (attention_mma_launch.h) do not reject. Fails the stream for a problem that no
// grid or workspace holds.
void MmaAttentionForward(Stream& stream, const AttentionForwardArgs& args);
void MmaAttentionBackward(Stream& stream, const AttentionBackwardArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_CUDA_H_
