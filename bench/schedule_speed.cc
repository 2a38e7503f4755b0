// How fast the schedule tools are, on one core:
//
//   bazel run //bench:schedule_speed                                 # Chimera-ZB; prints one JSON object a line
//   bazel run //bench:schedule_speed -- --name=1f1b
//
//   "tools":    generate, Verify of the compute, Complete, Verify of all, and Simulate of 64 workers x 512 micro-batches; at most 2 s.
//   "replicas": one iteration of 2,048 ranks, 64 data replicas of 32 workers, 128 micro-batches each, every rank at a speed of its own,
//               eager synchronisation over all replicas, updates; at most 2 s and 1 GiB, at least 5 M events/s. An event is an
//               instruction executed.
//
// Ends with code 1 where a limit is missed, with 2 where the schedule is unknown.
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

constexpr double kMaxSeconds = 2;
constexpr double kMaxMebibytes = 1024;
constexpr double kMinEventsPerSecond = 5e6;

class Clock {
 public:
  // Seconds since the last call.
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

double PeakMebibytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

TickCosts CostsOf(const Schedule& schedule) {
  Costs costs;
  costs.latency = {1, 10};
  costs.sync = {1, 1};
  costs.update = {1, 2};
  return *ToTicks(costs, TickDivisor(schedule));
}

StatusOr<bool> Tools(std::string_view name) {
  Clock clock;
  LYCIA_ASSIGN_OR_RETURN(const Schedule compute, Generate(name, {.workers = 64, .micro_batches = 512}));
  const double generate = clock.Lap();
  LYCIA_RETURN_IF_ERROR(Verify(compute, {.completed = false}));
  const double verify_compute = clock.Lap();
  const TickCosts costs = CostsOf(compute);
  const Schedule schedule = Complete(compute, {.sync = GradientSyncMode::kEagerOpt, .update = UpdateMode::kEager, .costs = costs});
  const double complete = clock.Lap();
  LYCIA_RETURN_IF_ERROR(Verify(schedule));
  const double verify = clock.Lap();
  LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(schedule, {.costs = costs}));
  const double simulate = clock.Lap();
  const double total = generate + verify_compute + complete + verify + simulate;
  const bool met = total <= kMaxSeconds;
  absl::PrintF(
      "{\"bench\":\"tools\",\"name\":\"%s\",\"workers\":64,\"micro_batches\":512,\"instructions\":%d,\"generate_s\":%.3f,"
      "\"verify_compute_s\":%.3f,\"complete_s\":%.3f,\"verify_s\":%.3f,\"simulate_s\":%.3f,\"total_s\":%.3f,\"met\":%s}\n",
      schedule.name, timeline.events, generate, verify_compute, complete, verify, simulate, total, met ? "true" : "false");
  return met;
}

StatusOr<bool> Replicas(std::string_view name) {
  constexpr int kWorkers = 32, kReplicas = 64;
  LYCIA_ASSIGN_OR_RETURN(const Schedule compute, Generate(name, {.workers = kWorkers, .micro_batches = 128}));
  SimulateOptions options{.costs = CostsOf(compute), .replicas = kReplicas, .keep_spans = false};
  options.costs.ticks_per_unit *= 1000;  // so that a thousandth of a unit is whole
  for (std::int64_t* ticks : {&options.costs.forward, &options.costs.backward, &options.costs.input, &options.costs.weight,
                              &options.costs.latency, &options.costs.sync, &options.costs.update}) {
    *ticks *= 1000;
  }
  std::mt19937 random(1);
  for (int rank = 0; rank < kWorkers * kReplicas; ++rank) options.permille.push_back(1000 + static_cast<int>(random() % 100));
  Clock clock;
  const Schedule schedule = Complete(compute, {.sync = GradientSyncMode::kEagerOpt, .update = UpdateMode::kEager, .costs = options.costs});
  const double complete = clock.Lap();
  LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(schedule, options));
  const double seconds = clock.Lap();
  const double rate = static_cast<double>(timeline.events) / seconds;
  const bool met = seconds <= kMaxSeconds && rate >= kMinEventsPerSecond && PeakMebibytes() <= kMaxMebibytes;
  absl::PrintF(
      "{\"bench\":\"replicas\",\"name\":\"%s\",\"ranks\":%d,\"micro_batches\":128,\"events\":%d,\"makespan\":%.3f,\"bubble\":%.4f,"
      "\"complete_s\":%.3f,\"simulate_s\":%.3f,\"events_per_s\":%.0f,\"peak_mib\":%.0f,\"met\":%s}\n",
      schedule.name, timeline.work.size(), timeline.events, MakespanUnits(timeline), BubbleRatio(timeline), complete, seconds, rate,
      PeakMebibytes(), met ? "true" : "false");
  return met;
}

int Main(std::string_view name) {
  bool met = true;
  for (const auto bench : {Replicas, Tools}) {
    const StatusOr<bool> result = bench(name);
    if (!result.ok()) {
      absl::FPrintF(stderr, "%s\n", result.status().message());
      return 2;
    }
    met = met && *result;
  }
  return met ? 0 : 1;
}

}  // namespace
}  // namespace lycia::schedule

int main(int argc, char** argv) {
  constexpr std::string_view kFlag = "--name=";
  std::string_view name = "chimera-zb";
  if (argc > 1) {
    const std::string_view argument = argv[1];
    if (argc > 2 || argument.substr(0, kFlag.size()) != kFlag) {
      std::fputs("usage: schedule_speed [--name=SCHEDULE]\n", stderr);
      return 2;
    }
    name = argument.substr(kFlag.size());
  }
  return lycia::schedule::Main(name);
}
