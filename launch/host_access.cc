#include "launch/host_access.h"

#include <utility>

namespace lycia {

Status HostAccess::Read(const Tensor& from, const std::function<Status(const Tensor& host)>& use) {
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  if (from.data == nullptr || from.elements() == 0) return OkStatus();
  if (in_place()) return use(from);
  LYCIA_ASSIGN_OR_RETURN(const Tensor host, Copy(from));
  stream_->Copy(host.data, from.data, from.bytes());
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  return use(host);
}

Status HostAccess::Write(const Tensor& to, const std::function<Status(const Tensor& host)>& fill) {
  if (to.data == nullptr || to.elements() == 0) return OkStatus();
  if (in_place()) return fill(to);
  LYCIA_ASSIGN_OR_RETURN(const Tensor host, Copy(to));
  LYCIA_RETURN_IF_ERROR(fill(host));
  stream_->Copy(to.data, host.data, to.bytes());
  return stream_->Synchronize();
}

StatusOr<Tensor> HostAccess::Copy(const Tensor& like) {
  if (copy_.bytes() < like.bytes()) {
    copy_ = Buffer();
    LYCIA_ASSIGN_OR_RETURN(copy_, device_->Allocate(like.bytes(), MemoryKind::kPinned));
  }
  return Tensor{copy_.data(), like.dtype, like.shape};
}

StatusOr<Stream*> HostAccess::ComputeStream() {
  if (in_place()) return stream_;
  if (host_stream_ == nullptr) {
    host_ = NewCpuDevice();
    LYCIA_ASSIGN_OR_RETURN(host_stream_, host_->NewStream());
  }
  return host_stream_.get();
}

}  // namespace lycia
