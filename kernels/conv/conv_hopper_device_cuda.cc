#include <cuda_runtime_api.h>

#include "kernels/conv/conv_hopper_cuda.h"

namespace lycia::cuda {

bool OnHopper() {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major == 9;
}

}  // namespace lycia::cuda
