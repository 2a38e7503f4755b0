#include "kernels/cuda/tensor_map_cuda.h"

#include <cuda_runtime_api.h>

#include "runtime/device/cuda_error.h"

namespace lycia::cuda {
namespace {

using EncodeFunction = decltype(&cuTensorMapEncodeTiled);
constexpr unsigned kSince = 12000;  // the toolkit version whose signature EncodeFunction has

// Through the runtime, so that no program needs libcuda to link.
StatusOr<EncodeFunction> FindEncode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const Status status = LYCIA_CUDA_STATUS(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &found), "symbol ", kSince);
  if (!status.ok()) return status;
  if (function == nullptr) return absl::FailedPreconditionError("the driver has no cuTensorMapEncodeTiled; install one for CUDA 12.0 or later");
  return reinterpret_cast<EncodeFunction>(function);
}

}  // namespace

StatusOr<CUtensorMap> EncodeTensorMap(const TensorMap& map, const void* data) {
  if (const char* reason = Reject(map, reinterpret_cast<std::uintptr_t>(data)); reason != nullptr) {
    return InvalidArgument("tensor map [", map.sizes[3], ", ", map.sizes[2], ", ", map.sizes[1], ", ", map.sizes[0], "], strides ",
                           map.strides[2], ", ", map.strides[1], ", ", map.strides[0], " bytes: ", reason);
  }
  static const StatusOr<EncodeFunction> encode = FindEncode();
  if (!encode.ok()) return encode.status();
  cuuint64_t sizes[4], strides[3];
  cuuint32_t box[4], element_strides[4] = {1, 1, 1, 1};
  for (std::size_t i = 0; i < 4; ++i) {
    sizes[i] = static_cast<cuuint64_t>(map.sizes[i]);
    box[i] = static_cast<cuuint32_t>(map.box[i]);
    if (i < 3) strides[i] = static_cast<cuuint64_t>(map.strides[i]);
  }
  CUtensorMap encoded;
  const CUresult result = (*encode)(&encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(data), sizes, strides, box,
                                    element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return absl::InternalError(absl::StrCat("cuTensorMapEncodeTiled: error ", static_cast<int>(result)));
  return encoded;
}

}  // namespace lycia::cuda
