// Where kernels are emulated (kernels/cuda/testing) there are no tensor cores: the plain kernels serve what Hopper's would.
#include "kernels/attention/attention_hopper_cuda.h"
#include "kernels/attention/attention_plain_cuda.h"

namespace lycia::cuda {

void HopperAttentionForward(Stream& stream, const AttentionForwardArgs& args) { PlainAttentionForward(stream, args); }
void HopperAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) { PlainAttentionBackward(stream, args); }

}  // namespace lycia::cuda
