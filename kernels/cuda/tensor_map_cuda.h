// The driver's form of a TensorMap and of an Im2colMap, to be handed to a kernel as a __grid_constant__ parameter.
#ifndef LYCIA_KERNELS_CUDA_TENSOR_MAP_CUDA_H_
#define LYCIA_KERNELS_CUDA_TENSOR_MAP_CUDA_H_

#include <cuda.h>

#include "kernels/cuda/im2col_map.h"
#include "kernels/cuda/tensor_map.h"
#include "runtime/core/status.h"

namespace lycia::cuda {

// Of bf16 elements at `data`. InvalidArgument with Reject's reason; Internal if the driver refuses for another.
StatusOr<CUtensorMap> EncodeTensorMap(const TensorMap& map, const void* data);
StatusOr<CUtensorMap> EncodeIm2colMap(const Im2colMap& map, const void* data);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_TENSOR_MAP_CUDA_H_
