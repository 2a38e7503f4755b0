#include "parallel/pipeline/emulated_clock.h"

#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace lycia {
namespace {

// From the agreement on a common start to the start: every rank must have been told by then, also where 32 share two cores.
constexpr std::int64_t kStartMarginNs = 20'000'000;

std::int64_t MonotonicNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

void SleepUntil(std::int64_t monotonic_ns) {
  const timespec until{monotonic_ns / 1'000'000'000, monotonic_ns % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

// Names the running system: processes share one monotonic clock exactly where this is the same. 0 where it cannot be read.
std::int64_t BootId() {
  char text[64] = {};
  std::FILE* file = std::fopen("/proc/sys/kernel/random/boot_id", "r");
  if (file == nullptr) return 0;
  if (std::fgets(text, sizeof text, file) == nullptr) text[0] = '\0';
  std::fclose(file);
  std::uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char* c = text; *c != '\0'; ++c) hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001B3u;
  return static_cast<std::int64_t>(hash);
}

}  // namespace

EmulatedClock::EmulatedClock(const Args& args)
    : args_(args),
      said_(static_cast<std::size_t>(args.ranks->size())),
      sync_({.sync_ns = args.sync_ns,
             .groups = args.sync_groups,
             .wall_ns = args.kind == ClockKind::kWall ? [this] { return WallNs(); } : std::function<std::int64_t()>()}) {}

StatusOr<std::unique_ptr<EmulatedClock>> EmulatedClock::Create(const Args& args) {
  std::unique_ptr<EmulatedClock> clock(new EmulatedClock(args));
  if (args.kind == ClockKind::kLogical) return clock;
  LYCIA_RETURN_IF_ERROR(clock->Exchange(BootId()));
  for (std::size_t rank = 1; rank < clock->said_.size(); ++rank) {
    if (clock->said_[rank] == clock->said_[0]) continue;
    return InvalidArgument("the wall clock of an emulated device needs all ranks on one host, but ranks 0 and ", rank,
                           " are on two; use the logical clock");
  }
  return clock;
}

Status EmulatedClock::StartStep() {
  now_ns_ = egress_free_ns_ = 0;
  sync_.StartStep();
  if (args_.kind == ClockKind::kLogical) return OkStatus();
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // of this thread: sleeps end when they should, not 50 us later
  LYCIA_RETURN_IF_ERROR(Exchange(MonotonicNs()));
  start_ns_ = *std::max_element(said_.begin(), said_.end()) + kStartMarginNs;
  SleepUntil(start_ns_);
  return OkStatus();
}

StatusOr<std::int64_t> EmulatedClock::EndStep() {
  LYCIA_RETURN_IF_ERROR(Exchange(args_.kind == ClockKind::kWall ? std::max(now_ns_, WallNs()) : now_ns_));
  return *std::max_element(said_.begin(), said_.end());
}

void EmulatedClock::Compute(std::int64_t ns) {
  if (ns > 0) Reach(now_ns_ + ns);
}

std::int64_t EmulatedClock::Depart() {
  egress_free_ns_ = std::max(now_ns_, egress_free_ns_) + args_.transmit_ns;
  return egress_free_ns_ + args_.latency_ns;
}

void EmulatedClock::Arrive(std::int64_t arrival_ns, bool blocked) {
  if (blocked && args_.kind == ClockKind::kWall) arrival_ns = std::max(arrival_ns, WallNs());
  if (arrival_ns > now_ns_) Reach(arrival_ns);
}

Status EmulatedClock::AwaitSync(int sync_set) {
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t end_ns, sync_.Await(sync_set, args_.guard));
  if (end_ns > now_ns_) Reach(end_ns);
  return OkStatus();
}

std::int64_t EmulatedClock::WallNs() const { return MonotonicNs() - start_ns_; }

void EmulatedClock::Reach(std::int64_t ns) {
  now_ns_ = ns;
  if (args_.kind == ClockKind::kWall) SleepUntil(start_ns_ + ns);
}

Status EmulatedClock::Exchange(std::int64_t mine) {
  mine_ = mine;
  return args_.ranks
      ->AllGather({.in = ConstTensor(&mine_, DType::kI64, {1}),
                   .out = Tensor{said_.data(), DType::kI64, {args_.ranks->size()}},
                   .tag = Tag::kMetrics},
                  {})
      .Wait(args_.guard);
}

}  // namespace lycia
