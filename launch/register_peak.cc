#include "launch/register_peak.h"

#include <time.h>

#include <algorithm>
#include <vector>

namespace lycia {

double RegisterPeakGflops(const cpu::MicroKernel& kernel, ThreadPool& pool, bool cpu_clock) {
  const auto now = [cpu_clock] {
    timespec time{};
    clock_gettime(cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  std::int64_t rounds = 1000;
  double best = 0;
  for (int repetition = 0; repetition < 5;) {
    std::vector<double> operations(static_cast<std::size_t>(pool.threads()));
    const double start = now();
    pool.Run([&](int thread) {
      alignas(64) float sink[16] = {};
      operations[static_cast<std::size_t>(thread)] = kernel.peak(rounds, sink);
    });
    const double seconds = now() - start;
    if (seconds < 0.01) {
      rounds *= 4;
      continue;
    }
    double all = 0;
    for (const double of_thread : operations) all += of_thread;
    best = std::max(best, all / seconds / 1e9);
    ++repetition;
  }
  return best;
}

}  // namespace lycia
