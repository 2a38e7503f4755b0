// The CUDA device, and what a kernel needs to know of a stream on it.
//
// How the promises of device.h are kept here:
// - Everything is enqueued on a non-blocking CUDA stream. Copy from or to pageable host memory is right, but may block the caller: use
// kPinned.
// - Wait(event) of a CUDA stream, or of NCCL once it is launched, is enqueued (cudaStreamWaitEvent). Wait on a host event blocks the
// calling thread, under the guard: work
//   enqueued later then starts later, and all that the event can depend on was enqueued before, so that this cannot lock up where the CPU
//   would not. It costs the host's lead over the device.
// - Record takes a CUDA event from a ring (cuda_event.h). On a stream that has failed it gives an event whose every wait returns the
// failure.
// - Elapse runs one sleeping thread on the device: exact to about a microsecond, needs no host thread, streams overlap.
// - Record, Wait, Copy, Zero and Elapse allocate nothing.
// - One thread at a time enqueues on a stream; any thread may ask for its events. The stream outlives its events.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_DEVICE_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_DEVICE_H_

#include <memory>

#include "runtime/core/status.h"
#include "runtime/device/device.h"

namespace lycia::cuda {

// The device with this ordinal. Unavailable: "no GPU: ..." without driver, without such a device, with one below compute capability
// 8.0, or with a chip this build has no code for.
StatusOr<std::unique_ptr<Device>> NewDevice(int ordinal, const CudaOptions& options = {});
// Device::Allocate of the stream's device (allocate_beside.h).
StatusOr<Buffer> AllocateBeside(Stream& stream, std::int64_t bytes);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_DEVICE_H_
