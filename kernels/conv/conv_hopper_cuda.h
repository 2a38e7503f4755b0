// Convolutions on Hopper's tensor cores (sm_90a), bf16.
#ifndef LYCIA_KERNELS_CONV_CONV_HOPPER_CUDA_H_
#define LYCIA_KERNELS_CONV_CONV_HOPPER_CUDA_H_

#include "kernels/conv/conv.h"

namespace lycia::cuda {

// args as they were checked; the weight is read. False, with nothing done: not on this device, or a product of the convolution is rejected
// (RejectConvHopper).
bool ConvForwardHopper(Stream& stream, const ConvForwardArgs& args);
bool ConvBackwardInputHopper(Stream& stream, const ConvBackwardInputArgs& args);
// dbias is the caller's.
bool ConvBackwardWeightHopper(Stream& stream, const ConvBackwardWeightArgs& args);

// Whether the calling thread's device runs code of sm_90a.
bool OnHopper();

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_HOPPER_CUDA_H_
