// The one place where CUDA's error codes become a Status: the call, where it stands, CUDA's words, and the numbers the caller knew.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_ERROR_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_ERROR_H_

#include <cuda_runtime_api.h>

#include <string_view>

#include "absl/strings/str_cat.h"
#include "runtime/core/status.h"

namespace lycia::cuda {

// "cudaMalloc(&data, size) at runtime/device/cuda_device.cc:41: out of memory (cudaErrorMemoryAllocation); 1073741824 bytes".
// ResourceExhausted: out of memory. Unavailable: no driver, no GPU, GPU lost or busy. Unimplemented: not on this chip. Internal: the rest.
Status ToStatus(cudaError_t error, std::string_view call, std::string_view file, int line, std::string_view numbers);

}  // namespace lycia::cuda

// A Status of a CUDA call; the words after it are put together only when it failed: LYCIA_CUDA_STATUS(cudaMalloc(&p, n), n, " bytes").
#define LYCIA_CUDA_STATUS(call, ...)                                                                           \
  [&]() -> ::lycia::Status {                                                                                   \
    const ::cudaError_t lycia_cuda_error_ = (call);                                                            \
    if (lycia_cuda_error_ == ::cudaSuccess) return ::lycia::OkStatus();                                        \
    return ::lycia::cuda::ToStatus(lycia_cuda_error_, #call, __FILE__, __LINE__, ::absl::StrCat(__VA_ARGS__)); \
  }()

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_ERROR_H_
