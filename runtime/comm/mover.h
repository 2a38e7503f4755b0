// Mover: how the communication thread of a process moves and adds bytes. On the host at once; on GPUs later, in the order it was asked.
//
// The communication thread is one thread and its moves are one sequence. A mover keeps that sequence, so whatever is right when a move
// happens at once is right when it happens later, but for one thing: what users are told. They are told once Record()'s event is done.
#ifndef LYCIA_RUNTIME_COMM_MOVER_H_
#define LYCIA_RUNTIME_COMM_MOVER_H_

#include <cstdint>
#include <memory>
#include <span>

#include "runtime/comm/fold.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/device/device.h"
#include "runtime/device/event.h"

namespace lycia {

class Mover {
 public:
  virtual ~Mover() = default;
  // Memory for messages under way, which the mover and the host reach. Set-up only.
  virtual StatusOr<Buffer> Allocate(std::int64_t bytes) = 0;
  // Regions must not overlap.
  virtual void Copy(void* to, const void* from, std::int64_t bytes) = 0;
  // lycia::LeftFold (fold.h), with its bits.
  virtual void LeftFold(DType dtype, std::span<const void* const> sources, std::int64_t elements, Fold fold, bool accumulate,
                        void* out) = 0;
  // Done when everything asked for so far has happened.
  virtual Event Record() = 0;
  // Blocks until it has.
  virtual void Settle() = 0;
  // The first failure, also of moves under way.
  virtual Status Check() = 0;
  // Where memory lies, as the mover sees it: of the host, where moves happen at once; or else they happen later, also where the host
  // reaches it (page-locked).
  enum class Memory { kHost, kPinned, kDevice };
  virtual Memory MemoryOf(const void*) { return Memory::kHost; }
  // The largest piece worth moving at once; 0: as small as lets other work be looked after in between.
  virtual std::int64_t piece_bytes() const { return 0; }
};

std::unique_ptr<Mover> NewHostMover();

// Completes the tickets of a source once the moves behind them have happened. Of the communication thread.
class Announcer {
 public:
  explicit Announcer(HostEventSource* source) : source_(source) {}

  // Everything up to ticket `asked` has been asked of the mover. True if tickets were completed.
  bool Advance(std::uint64_t asked, Mover& mover) {
    bool moved = false;
    while (completed_ < asked) {
      if (recorded_ == completed_) {
        event_ = mover.Record();
        recorded_ = asked;
      }
      if (!event_.Done()) break;
      completed_ = recorded_;
      source_->Complete(completed_);
      moved = true;
    }
    return moved;
  }
  // Some tickets wait for their moves.
  bool waiting() const { return recorded_ > completed_; }

 private:
  HostEventSource* const source_;
  std::uint64_t recorded_ = 0, completed_ = 0;
  Event event_;  // of recorded_
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_MOVER_H_
