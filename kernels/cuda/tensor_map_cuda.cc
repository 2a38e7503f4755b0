#include "kernels/cuda/tensor_map_cuda.h"

#include <cuda_runtime_api.h>

#include "runtime/device/cuda_error.h"

namespace lycia::cuda {
namespace {

constexpr unsigned kSince = 12000;  // the toolkit version whose signatures the functions have

// Through the runtime, so that no program needs libcuda to link.
template <typename Function>
StatusOr<Function> FindEncode(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const Status status = LYCIA_CUDA_STATUS(cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found), "symbol ",
                                          name, ", ", kSince);
  if (!status.ok()) return status;
  if (function == nullptr)
    return absl::FailedPreconditionError(absl::StrCat("the driver has no ", name, "; install one for CUDA 12.0 or later"));
  return reinterpret_cast<Function>(function);
}

}  // namespace

StatusOr<CUtensorMap> EncodeTensorMap(const TensorMap& map, const void* data) {
  if (const char* reason = Reject(map, reinterpret_cast<std::uintptr_t>(data)); reason != nullptr) {
    return InvalidArgument("tensor map [", map.sizes[3], ", ", map.sizes[2], ", ", map.sizes[1], ", ", map.sizes[0], "], strides ",
                           map.strides[2], ", ", map.strides[1], ", ", map.strides[0], " bytes: ", reason);
  }
  static const auto encode = FindEncode<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
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

StatusOr<CUtensorMap> EncodeIm2colMap(const Im2colMap& map, const void* data) {
  if (const char* reason = Reject(map, reinterpret_cast<std::uintptr_t>(data)); reason != nullptr) {
    return InvalidArgument("im2col map of images [", map.N, ", ", map.H, ", ", map.W, ", ", map.C, "]: ", reason);
  }
  static const auto encode = FindEncode<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  if (!encode.ok()) return encode.status();
  const auto size = [](std::int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[4] = {size(map.C), size(map.W), size(map.H), size(map.N)};
  const cuuint64_t strides[3] = {size(map.C * 2), size(map.W * map.C * 2), size(map.H * map.W * map.C * 2)};
  // As the sizes, innermost first: w, then h.
  const int lower[2] = {static_cast<int>(map.lower_w), static_cast<int>(map.lower_h)};
  const int upper[2] = {static_cast<int>(map.upper_w), static_cast<int>(map.upper_h)};
  const cuuint32_t steps[4] = {1, static_cast<cuuint32_t>(map.step_w), static_cast<cuuint32_t>(map.step_h), 1};
  CUtensorMap encoded;
  const CUresult result =
      (*encode)(&encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(data), sizes, strides, lower, upper,
                static_cast<cuuint32_t>(map.channels), static_cast<cuuint32_t>(map.pixels), steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return absl::InternalError(absl::StrCat("cuTensorMapEncodeIm2col: error ", static_cast<int>(result)));
  return encoded;
}

}  // namespace lycia::cuda
