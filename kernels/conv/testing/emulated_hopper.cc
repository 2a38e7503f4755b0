// Where kernels are emulated (kernels/cuda/testing) there are no tensor cores: the plain kernels serve what Hopper's would.
#include "kernels/conv/conv_hopper_cuda.h"

namespace lycia::cuda {

bool ConvForwardHopper(Stream&, const ConvForwardArgs&) { return false; }
bool ConvBackwardInputHopper(Stream&, const ConvBackwardInputArgs&) { return false; }
bool ConvBackwardWeightHopper(Stream&, const ConvBackwardWeightArgs&) { return false; }

}  // namespace lycia::cuda
