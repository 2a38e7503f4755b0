// HostAccess: where the host reads and writes tensors of a device. On the CPU that is the tensor itself; elsewhere a copy in page-locked
// memory, moved by the device's stream.
//
// For set-up, checkpoints and checks, not for steps: every call waits for the stream, and the page-locked memory grows to the largest
// tensor.
#ifndef LYCIA_LAUNCH_HOST_ACCESS_H_
#define LYCIA_LAUNCH_HOST_ACCESS_H_

#include <functional>
#include <memory>

#include "runtime/core/status.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

class HostAccess {
 public:
  // Both outlive this. Nothing is read or written on a device of kind kShape.
  HostAccess(Device& device, Stream& stream) : device_(&device), stream_(&stream) {}

  // use(values in host memory), after all work that the stream holds.
  Status Read(const Tensor& from, const std::function<Status(const Tensor& host)>& use);
  // fill(host memory) must write every element; done when this returns.
  Status Write(const Tensor& to, const std::function<Status(const Tensor& host)>& fill);
  // Computes in host memory: of the CPU.
  StatusOr<Stream*> ComputeStream();

 private:
  bool in_place() const { return device_->kind() == DeviceKind::kCpu; }
  // As large as `like`.
  StatusOr<Tensor> Copy(const Tensor& like);

  Device* device_;
  Stream* stream_;
  Buffer copy_;
  std::unique_ptr<Device> host_;
  std::unique_ptr<Stream> host_stream_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_HOST_ACCESS_H_
