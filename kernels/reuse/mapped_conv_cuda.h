// The ways of a mapped convolution on CUDA. All take what patch_check.h has seen, of shapes that RejectConvPlain does not reject.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_CONV_CUDA_H_
#define LYCIA_KERNELS_REUSE_MAPPED_CONV_CUDA_H_

#include "kernels/reuse/mapped_conv.h"

namespace lycia::cuda {

// Any operands; patches are read where they lie.
void MappedConvForwardPlain(Stream& stream, const MappedConvForwardArgs& args);
void MappedConvBackwardWeightPlain(Stream& stream, const MappedConvBackwardWeightArgs& args);

// By mapped products of matrices: strips of so many distinct patches, one after the other, are written out in the stream's workspace
// (mapped_conv_strips.h says how many fit) and multiplied. No scale; c of in's type.
void MappedConvForwardByStrips(Stream& stream, const MappedConvForwardArgs& args, std::int64_t strip);
void MappedConvBackwardWeightByStrips(Stream& stream, const MappedConvBackwardWeightArgs& args, std::int64_t strip);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_MAPPED_CONV_CUDA_H_
