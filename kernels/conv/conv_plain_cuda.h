// The plain convolutions: any shape and type of conv.h, on any GPU from sm_80 on. args as they were checked; the weight is read.
#ifndef LYCIA_KERNELS_CONV_CONV_PLAIN_CUDA_H_
#define LYCIA_KERNELS_CONV_CONV_PLAIN_CUDA_H_

#include "kernels/conv/conv.h"

namespace lycia::cuda {

void ConvForwardPlain(Stream& stream, const ConvForwardArgs& args);
void ConvBackwardInputPlain(Stream& stream, const ConvBackwardInputArgs& args);
// dbias is the caller's.
void ConvBackwardWeightPlain(Stream& stream, const ConvBackwardWeightArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_PLAIN_CUDA_H_
