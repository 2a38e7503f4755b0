// The attention kernels for Hopper (attention_forward_cuda.cu, attention_backward_cuda.cu).
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_HOPPER_CUDA_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_HOPPER_CUDA_H_

#include "kernels/attention/attention.h"

namespace lycia::cuda {

// Of problems and tensors that RejectHopper and RejectHopperView (attention_cuda_launch.h) do not reject.
void HopperAttentionForward(Stream& stream, const AttentionForwardArgs& args);
void HopperAttentionBackward(Stream& stream, const AttentionBackwardArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_HOPPER_CUDA_H_
