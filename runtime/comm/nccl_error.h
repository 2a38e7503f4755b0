// The one place where NCCL's results become a Status: the call, where it stands, NCCL's words, and the numbers the caller knew.
#ifndef LYCIA_RUNTIME_COMM_NCCL_ERROR_H_
#define LYCIA_RUNTIME_COMM_NCCL_ERROR_H_

#include <nccl.h>

#include <string_view>

#include "runtime/core/dtype.h"
#include "runtime/core/status.h"

namespace lycia::nccl {

// "ncclAllReduce(...) at runtime/comm/nccl_collective.cc:41: remote process exited (ncclRemoteError); all-reduce of 4096 f32, rank 3 of 8
// of world.2". comm may be null. Unavailable: a peer or the network is gone. InvalidArgument never: wrong arguments are our own fault
// (Internal).
Status ToStatus(ncclResult_t result, ncclComm_t comm, std::string_view call, std::string_view file, int line, std::string_view numbers);

// f64, f32, bf16, f16, i64, i32, u8; i64 as unsigned, so that its sums wrap.
ncclDataType_t TypeOf(DType dtype);

}  // namespace lycia::nccl

// A Status of an NCCL call on a communicator; "in progress" is OK: communicators are not blocking. The words are put together only when it
// failed.
#define LYCIA_NCCL_STATUS(comm, call, ...)                                                                             \
  [&]() -> ::lycia::Status {                                                                                           \
    const ::ncclResult_t lycia_nccl_result_ = (call);                                                                  \
    if (lycia_nccl_result_ == ::ncclSuccess || lycia_nccl_result_ == ::ncclInProgress) return ::lycia::OkStatus();     \
    return ::lycia::nccl::ToStatus(lycia_nccl_result_, comm, #call, __FILE__, __LINE__, ::lycia::StrCat(__VA_ARGS__)); \
  }()

#endif  // LYCIA_RUNTIME_COMM_NCCL_ERROR_H_
