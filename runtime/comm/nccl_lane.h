// Lane: one NCCL communicator, the CUDA stream its operations run on, and the events of their ends. The operations of a lane run one after
// the other, in the order in which they were issued; NCCL asks that this order be the same on all ranks of the communicator.
#ifndef LYCIA_RUNTIME_COMM_NCCL_LANE_H_
#define LYCIA_RUNTIME_COMM_NCCL_LANE_H_

#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/core/status.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/device.h"

namespace lycia::nccl {

// Ticket k is the k-th operation. It is launched once NCCL has put it on the stream, which may be long after the call; from then on other
// streams wait for it without the host. A failure ends every ticket that was not done before it.
class LaunchedEvents final : public cuda::StreamEventSource {
 public:
  // Tickets that may be launched and not done.
  static constexpr std::uint64_t kRing = 256;

  Status Create() { return events_.Create(kRing); }

  // ---- The issuing thread ----
  bool HasRoom() const { return recorded_ < kRing || events_.Done(recorded_ - kRing + 1); }
  // What is on the stream so far is the next ticket; HasRoom() was true. Announce tells the waiting that it is launched.
  Status Record(cudaStream_t stream);
  void Announce() { launched_.Complete(recorded_); }
  std::uint64_t recorded() const { return recorded_; }
  bool Passed(std::uint64_t ticket) const { return ticket == 0 || events_.Done(ticket); }  // on the device
  void Fail(const Status& status);

  // ---- Any thread ----
  bool Done(std::uint64_t ticket) const override;
  Status Wait(std::uint64_t ticket, WaitGuard* guard) override;
  bool Launched(std::uint64_t ticket) const override { return launched_.Done(ticket); }
  Status EnqueueWait(cudaStream_t stream, std::uint64_t ticket, WaitGuard* guard) override;

 private:
  Status failure() const { return failed_.load(std::memory_order_acquire) ? failure_ : OkStatus(); }

  cuda::CudaEventSource events_;
  HostEventSource launched_;
  std::uint64_t recorded_ = 0;
  std::atomic<bool> failed_{false};
  std::uint64_t done_before_ = 0;  // tickets done when it failed; written before failed_
  Status failure_;                 // likewise
};

struct Lane {
  ncclComm_t comm = nullptr;
  std::string name;  // "world", "world.2", "world.2 from 0 to 3"
  int rank = 0, size = 1;
  std::unique_ptr<Stream> own_stream;
  Stream* stream = nullptr;  // own_stream, or one that several lanes share
  LaunchedEvents events;

  std::uint64_t asked = 0;  // tickets given out by the calling thread
  bool collective = true;   // or messages of a pair
  std::string last;         // the operation issued last, for failures

  // Of the issuer.
  std::uint64_t blocked_in = 0;  // scan of the calls in which one of this lane could not go on
  std::uint64_t watched = 0;     // a ticket that is launched, and since when
  std::int64_t watched_since_ns = 0;

  std::string Where() const;  // "rank 3 of 8 of world.2"
};

// What another thread of NCCL has come to with the last call: true when it is done, false while it goes on.
StatusOr<bool> Settled(Lane& lane);

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_LANE_H_
