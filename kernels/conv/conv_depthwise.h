// Convolutions of every channel by itself (groups = C = K): no product to speak of, so vectors of channels, pixel by pixel.
#ifndef LYCIA_KERNELS_CONV_CONV_DEPTHWISE_H_
#define LYCIA_KERNELS_CONV_CONV_DEPTHWISE_H_

#include "kernels/conv/conv.h"

namespace lycia::cpu {

// At most 64 taps, and filters that fit half of the least workspace (512 KiB): others go the way of all groups.
bool IsDepthwise(const ConvShape& shape);

// args as they were checked, f32 or bf16. A packed weight is f32 [R, S, C], for both uses.
std::int64_t PackedConvBytesDepthwise(const ConvShape& shape);
void PackConvWeightDepthwise(const PackConvWeightArgs& args);
void ConvForwardDepthwise(Stream& stream, const ConvForwardArgs& args);
void ConvBackwardInputDepthwise(Stream& stream, const ConvBackwardInputArgs& args);
void ConvBackwardWeightDepthwise(Stream& stream, const ConvBackwardWeightArgs& args);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CONV_CONV_DEPTHWISE_H_
