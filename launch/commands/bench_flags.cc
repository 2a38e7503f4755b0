#include "launch/commands/bench_flags.h"

#include <sched.h>

#include <string>

namespace lycia {

StatusOr<BenchFlags> ReadBenchFlags(const Arguments& arguments) {
  BenchFlags flags;
  const std::string format = arguments.Get("format", "text"), dtype = arguments.Get("dtype", "all");
  if (format != "text" && format != "json") return InvalidArgument("--format=", format, " must be text or json");
  flags.json = format == "json";
  if (dtype == "f32" || dtype == "all") flags.dtypes.push_back(DType::kF32);
  if (dtype == "bf16" || dtype == "all") flags.dtypes.push_back(DType::kBF16);
  if (flags.dtypes.empty()) return InvalidArgument("--dtype=", dtype, " must be f32, bf16 or all");

  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return absl::UnavailableError("the cores that may be used cannot be listed");
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t threads, arguments.GetInteger("threads", CPU_COUNT(&usable), 1, 1024));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t milliseconds, arguments.GetInteger("milliseconds", 200, 1, 60'000));
  flags.seconds = static_cast<double>(milliseconds) / 1000;
  flags.cpu.threads = static_cast<int>(threads);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &usable)) flags.cpu.cores.push_back(core);
  }
  if (threads <= CPU_COUNT(&usable)) LYCIA_RETURN_IF_ERROR(PinThisThread(flags.cpu.cores[0]));
  return flags;
}

}  // namespace lycia
