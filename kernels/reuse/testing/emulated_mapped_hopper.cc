// Where kernels are emulated (kernels/cuda/testing) there are no tensor cores: the plain kernels serve what Hopper's would.
#include "kernels/reuse/mapped_gemm_cuda.h"

namespace lycia::cuda {

bool MappedGemmHopper(Stream&, const MappedGemmArgs&) { return false; }

}  // namespace lycia::cuda
