// Convolutions on Hopper's tensor cores (sm_90a), bf16.
#ifndef LYCIA_KERNELS_CONV_CONV_HOPPER_CUDA_H_
#define LYCIA_KERNELS_CONV_CONV_HOPPER_CUDA_H_

#include "kernels/conv/conv.h"

namespace lycia::cuda {

// args as they were checked; the weight is read; a stream of a device of compute capability 9.0. False, with nothing done: a product of the
// convolution is rejected (RejectConvHopper).
bool ConvForwardHopper(Stream& stream, const ConvForwardArgs& args);
bool ConvBackwardInputHopper(Stream& stream, const ConvBackwardInputArgs& args);
// dbias is the caller's.
bool ConvBackwardWeightHopper(Stream& stream, const ConvBackwardWeightArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_HOPPER_CUDA_H_
