// What the benches of kernels have in common: where they run, on which types, for how long.
#ifndef LYCIA_LAUNCH_COMMANDS_BENCH_FLAGS_H_
#define LYCIA_LAUNCH_COMMANDS_BENCH_FLAGS_H_

#include <vector>

#include "launch/cli.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/device/thread_pool.h"

namespace lycia {

struct BenchFlags {
  std::vector<DType> dtypes;
  CpuOptions cpu;
  double seconds = 0;  // of each measurement
  bool json = false;
};

// Of --dtype, --threads, --milliseconds and --format. Pins the calling thread where there is a core for every thread.
StatusOr<BenchFlags> ReadBenchFlags(const Arguments& arguments);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_COMMANDS_BENCH_FLAGS_H_
