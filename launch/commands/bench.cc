// lycia bench kernels: how fast the kernels are here, each beside the most that the processor can do.
#include <sched.h>

#include <cstdio>
#include <string>

#include "launch/commands/commands.h"
#include "launch/kernel_bench.h"

namespace lycia {
namespace {

// "256,768,768": m, n, k.
StatusOr<KernelBenchOptions::Shape> ParseShape(const std::string& text) {
  int used = 0;
  long long m = 0, n = 0, k = 0;
  if (std::sscanf(text.c_str(), "%lld,%lld,%lld%n", &m, &n, &k, &used) != 3 || used != static_cast<int>(text.size()) || m < 1 || n < 1 ||
      k < 1) {
    return InvalidArgument("--shape=", text, " must be three positive numbers m,n,k, like 256,768,768");
  }
  return KernelBenchOptions::Shape{m, n, k};
}

Status BenchKernels(const Arguments& arguments) {
  const std::string format = arguments.Get("format", "text"), dtype = arguments.Get("dtype", "all"), isa = arguments.Get("isa", "best");
  if (format != "text" && format != "json") return InvalidArgument("--format=", format, " must be text or json");
  if (isa != "best" && isa != "every") return InvalidArgument("--isa=", isa, " must be best or every");
  KernelBenchOptions options = {.name = arguments.Get("name"), .every_isa = isa == "every"};
  if (dtype == "f32" || dtype == "all") options.dtypes.push_back(DType::kF32);
  if (dtype == "bf16" || dtype == "all") options.dtypes.push_back(DType::kBF16);
  if (options.dtypes.empty()) return InvalidArgument("--dtype=", dtype, " must be f32, bf16 or all");
  for (const std::string& text : arguments.All("shape")) {
    LYCIA_ASSIGN_OR_RETURN(const auto shape, ParseShape(text));
    options.shapes.push_back(shape);
  }
  if (options.shapes.empty()) options.shapes = Gpt2Shapes();

  cpu_set_t usable;
  CPU_ZERO(&usable);
  sched_getaffinity(0, sizeof usable, &usable);
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t threads, arguments.GetInteger("threads", CPU_COUNT(&usable), 1, 1024));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t milliseconds, arguments.GetInteger("milliseconds", 200, 1, 60'000));
  options.seconds = static_cast<double>(milliseconds) / 1000;
  options.cpu.threads = static_cast<int>(threads);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &usable)) options.cpu.cores.push_back(core);
  }
  if (threads <= CPU_COUNT(&usable)) LYCIA_RETURN_IF_ERROR(PinThisThread(options.cpu.cores[0]));

  LYCIA_ASSIGN_OR_RETURN(const std::vector<KernelSpeed> rows, MeasureKernels(options));
  if (rows.empty()) return InvalidArgument("--name=", options.name, " is no kernel of this bench; run it without --name to see them");
  std::fputs((format == "json" ? KernelSpeedJson(rows) : KernelSpeedTable(rows)).c_str(), stdout);
  return OkStatus();
}

}  // namespace

Command BenchKernelsCommand() {
  return {.spec = {.name = "bench kernels",
                   .summary = "measures the kernels against the most this processor can do",
                   .flags = {{.name = "shape", .value = "M,N,K", .doc = "a matrix product; default: those of GPT-2 124M", .repeated = true},
                             {.name = "name", .value = "NAME", .doc = "only this kernel (default all)"},
                             {.name = "dtype", .value = "TYPE", .doc = "f32, bf16 or all (default all)"},
                             {.name = "isa", .value = "WHICH", .doc = "best, or every instruction set of this machine (default best)"},
                             {.name = "threads", .value = "N", .doc = "threads, one a core (default: all usable cores)"},
                             {.name = "milliseconds", .value = "N", .doc = "duration of each measurement (default 200)"},
                             {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}}},
          .run = BenchKernels};
}

}  // namespace lycia
