// Where kernels are emulated (kernels/cuda/testing) there is no Hopper: the kernels for every chip's tensor cores serve what its would.
#include "kernels/attention/attention_hopper_cuda.h"
#include "kernels/attention/attention_mma_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

void HopperAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  LYCIA_CHECK_EQ(TargetOf(stream).capability, kHopperCapability);
  MmaAttentionForward(stream, args);
}
void HopperAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  LYCIA_CHECK_EQ(TargetOf(stream).capability, kHopperCapability);
  MmaAttentionBackward(stream, args);
}

}  // namespace lycia::cuda
