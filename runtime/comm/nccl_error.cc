#include "runtime/comm/nccl_error.h"

#include "runtime/core/check.h"

namespace lycia::nccl {
namespace {

std::string_view NameOf(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "ncclSuccess";
    case ncclUnhandledCudaError:
      return "ncclUnhandledCudaError";
    case ncclSystemError:
      return "ncclSystemError";
    case ncclInternalError:
      return "ncclInternalError";
    case ncclInvalidArgument:
      return "ncclInvalidArgument";
    case ncclInvalidUsage:
      return "ncclInvalidUsage";
    case ncclRemoteError:
      return "ncclRemoteError";
    case ncclInProgress:
      return "ncclInProgress";
    default:
      return "unknown result";
  }
}

absl::StatusCode CodeOf(ncclResult_t result) {
  return result == ncclRemoteError || result == ncclSystemError ? absl::StatusCode::kUnavailable : absl::StatusCode::kInternal;
}

}  // namespace

Status ToStatus(ncclResult_t result, ncclComm_t comm, std::string_view call, std::string_view file, int line, std::string_view numbers) {
  const char* last = comm == nullptr ? nullptr : ncclGetLastError(comm);
  return Status(CodeOf(result), StrCat(call, " at ", file, ":", line, ": ", ncclGetErrorString(result), " (", NameOf(result), ")",
                                       numbers.empty() ? "" : "; ", numbers,
                                       last == nullptr || last[0] == 0 ? "" : "; NCCL: ", last == nullptr ? "" : last));
}

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return ncclUint8;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclUint64;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kF16:
      return ncclFloat16;
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
  }
  LYCIA_CHECK(false) << "dtype ";
  return ncclUint8;
}

}  // namespace lycia::nccl
