// Attention on CUDA for whatever the tensor cores' kernels do not serve: other types, and heads or rows of odd sizes.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_PLAIN_CUDA_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_PLAIN_CUDA_H_

#include "kernels/attention/attention.h"

namespace lycia::cuda {

// bf16 (sums in f32), f32 or f64; scratch is not used. Fails the stream for a problem that no grid or workspace holds.
void PlainAttentionForward(Stream& stream, const AttentionForwardArgs& args);
void PlainAttentionBackward(Stream& stream, const AttentionBackwardArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_PLAIN_CUDA_H_
