// Convolutions by their definition, pixel by pixel: f64, where layouts are proven equal, not where models train.
#ifndef LYCIA_KERNELS_CONV_CONV_DIRECT_H_
#define LYCIA_KERNELS_CONV_CONV_DIRECT_H_

#include "kernels/conv/conv.h"

namespace lycia::cpu {

// args as they were checked, of one type, f64. A packed weight is the weight.
void ConvForwardDirect(Stream& stream, const ConvForwardArgs& args);
void ConvBackwardInputDirect(Stream& stream, const ConvBackwardInputArgs& args);
void ConvBackwardWeightDirect(Stream& stream, const ConvBackwardWeightArgs& args);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CONV_CONV_DIRECT_H_
