#include "runtime/device/cuda_error.h"

namespace lycia::cuda {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
    case cudaErrorInitializationError:
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
      return absl::StatusCode::kUnavailable;
    case cudaErrorNotSupported:
    case cudaErrorNoKernelImageForDevice:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

Status ToStatus(cudaError_t error, std::string_view call, std::string_view file, int line, std::string_view numbers) {
  return Status(CodeOf(error), absl::StrCat(View(call), " at ", View(file), ":", line, ": ", cudaGetErrorString(error), " (",
                                            cudaGetErrorName(error), ")", numbers.empty() ? "" : "; ", View(numbers)));
}

}  // namespace lycia::cuda
