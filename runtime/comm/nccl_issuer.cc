#include "runtime/comm/nccl_issuer.h"

#include <sched.h>
#include <time.h>

#include <algorithm>

#include "runtime/comm/nccl_error.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::nccl {
namespace {

// How often lanes are asked whether a peer is gone or an operation is overdue.
constexpr std::int64_t kCheckNs = 10'000'000;

std::int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

bool CanBeEnqueued(const Event& after) {
  if (after.source == nullptr) return true;
  if (const auto* source = dynamic_cast<const cuda::StreamEventSource*>(after.source)) return source->Launched(after.ticket);
  return after.Done();
}

Event Issuer::Enqueue(Lane& lane, LaneUser& user, const Call& call) {
  const std::uint64_t place = asked_.load(std::memory_order_relaxed);
  while (place - first_open_.load(std::memory_order_acquire) >= kOpenCalls && !failed_.load(std::memory_order_acquire)) ::sched_yield();
  if (!failed_.load(std::memory_order_acquire)) {
    ring_[place % kOpenCalls] = {.lane = &lane, .user = &user, .call = call};
    asked_.store(place + 1, std::memory_order_release);
  }
  return {&lane.events, ++lane.asked};
}

bool Issuer::Advance(Wire&) {
  if (!status.ok()) return false;
  bool moved = AdvanceCalls();
  Need watched_need = Need::kNothing;
  for (Watched* watched : watched_) {
    StatusOr<bool> went = watched->Advance();
    if (!went.ok()) {
      status = went.status();
      return true;
    }
    moved |= *went;
    watched_need = std::max(watched_need, watched->need());
  }
  if (const std::int64_t now = NowNs(); now >= next_check_ns_) {
    next_check_ns_ = now + kCheckNs;
    CheckLanes();
  }
  need_ = calls_open_ ? Need::kEvent : std::max(watched_need, lanes_busy_ ? Need::kArrival : Need::kNothing);
  return moved;
}

bool Issuer::AdvanceCalls() {
  const std::uint64_t asked = asked_.load(std::memory_order_acquire);
  std::uint64_t first = first_open_.load(std::memory_order_relaxed);
  bool moved = false, hold_collectives = false;
  ++scan_;
  for (std::uint64_t i = first; i < asked && status.ok(); ++i) {
    Slot& slot = ring_[i % kOpenCalls];
    if (slot.lane == nullptr || slot.lane->blocked_in == scan_ || (slot.lane->collective && hold_collectives)) continue;
    const StatusOr<bool> launched = AdvanceCall(slot, &moved);
    if (!launched.ok()) {
      status = launched.status();
    } else if (*launched) {
      slot.lane = nullptr;
      lanes_busy_ = true;
    } else {
      slot.lane->blocked_in = scan_;
      // One that has started is in NCCL's hands, and all ranks' collectives must be launched in one order.
      if (slot.lane->collective && (serial_ || slot.step >= 0)) hold_collectives = true;
    }
  }
  while (first < asked && ring_[first % kOpenCalls].lane == nullptr) ++first;
  first_open_.store(first, std::memory_order_release);
  calls_open_ = first < asked;
  return moved;
}

StatusOr<bool> Issuer::AdvanceCall(Slot& slot, bool* moved) {
  Lane& lane = *slot.lane;
  if (slot.step < 0) {
    if (slot.call.host ? !slot.call.after.Done() : !CanBeEnqueued(slot.call.after)) return false;
    if (!lane.events.HasRoom() || !slot.user->Ready(slot.call)) return false;
    if (!slot.call.host) lane.stream->Wait(slot.call.after);
    lane.last = slot.user->ToString(slot.call);
    slot.step = 0;
    LYCIA_RETURN_IF_ERROR(slot.user->Issue(slot.call, 0));
    *moved = true;
  }
  if (!slot.recorded) {
    LYCIA_ASSIGN_OR_RETURN(const bool launched, Launch(slot, moved));
    if (!launched) return false;
    LYCIA_RETURN_IF_ERROR(lane.stream->status());
    LYCIA_RETURN_IF_ERROR(lane.events.Record(cuda::TargetOf(*lane.stream).stream));
    slot.recorded = true;
  }
  if (slot.call.host && !slot.user->HostDone()) return false;
  lane.events.Announce();
  *moved = true;
  return true;
}

// Steps one after the other, each once NCCL has launched the one before.
StatusOr<bool> Issuer::Launch(Slot& slot, bool* moved) {
  const std::int64_t steps = slot.user->StepsOf(slot.call);
  while (true) {
    LYCIA_ASSIGN_OR_RETURN(const bool settled, Settled(*slot.lane));
    if (!settled) return false;
    LYCIA_RETURN_IF_ERROR(slot.user->Finish(slot.call, slot.step));
    *moved = true;
    if (++slot.step == steps) return true;
    LYCIA_RETURN_IF_ERROR(slot.user->Issue(slot.call, slot.step));
  }
}

void Issuer::CheckLanes() {
  for (Watched* watched : watched_) {
    if (status.ok()) status = watched->Check();
  }
  lanes_busy_ = false;
  const std::int64_t now = NowNs();
  for (Lane* lane : lanes_) {
    if (lane->comm == nullptr || !status.ok()) continue;
    if (const StatusOr<bool> settled = Settled(*lane); !settled.ok()) status = settled.status();
    if (lane->watched == 0 || lane->events.Passed(lane->watched)) {
      lane->watched = lane->events.Passed(lane->events.recorded()) ? 0 : lane->events.recorded();
      lane->watched_since_ns = now;
    }
    lanes_busy_ |= lane->watched != 0;
    if (patience_.count() == 0 || lane->watched == 0 || now - lane->watched_since_ns < patience_.count() * 1'000'000) continue;
    status = absl::DeadlineExceededError(StrCat(lane->last, " (NCCL, ", lane->Where(), ") or one before it has not ended within ",
                                                patience_.count(), " ms of its start; a rank is gone, hangs, or calls in another order"));
  }
}

void Issuer::Fail(const Status& why) {
  // Whoever waits must learn of the failure before an aborted kernel lets streams go on.
  failure_ = why;
  failed_.store(true, std::memory_order_release);
  for (Lane* lane : lanes_) lane->events.Fail(why);
  for (Watched* watched : watched_) watched->Fail(why);
  for (Lane* lane : lanes_) {
    if (lane->comm != nullptr) ncclCommAbort(lane->comm);
    lane->comm = nullptr;
  }
  tell_(why);
}

void Issuer::FailIfFailed(LaunchedEvents& events) {
  if (!failure_.ok()) events.Fail(failure_);
}

void Issuer::Remove(Lane* lane) {
  for (Slot& slot : ring_) {
    if (slot.lane == lane) slot.lane = nullptr;
  }
  std::erase(lanes_, lane);
  if (lane->comm == nullptr) return;
  const bool idle = lane->events.Passed(lane->events.recorded());
  idle ? ncclCommDestroy(lane->comm) : ncclCommAbort(lane->comm);
  lane->comm = nullptr;
}

}  // namespace lycia::nccl
