// lycia bench kernels: how fast the kernels are here, each beside the most that the processor can do.
#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_join.h"
#include "launch/commands/bench_flags.h"
#include "launch/commands/commands.h"
#include "launch/kernel_bench.h"

namespace lycia {
namespace {

constexpr long long kMostSide = 1 << 20;

// "256,768,768": m, n, k.
StatusOr<KernelBenchOptions::Shape> ParseShape(const std::string& text) {
  int used = 0;
  long long m = 0, n = 0, k = 0;
  if (std::sscanf(text.c_str(), "%lld,%lld,%lld%n", &m, &n, &k, &used) != 3 || used != static_cast<int>(text.size()) ||
      std::min({m, n, k}) < 1 || std::max({m, n, k}) > kMostSide) {
    return InvalidArgument("--shape=", text, " must be three numbers m,n,k from 1 to ", kMostSide, ", like 256,768,768");
  }
  return KernelBenchOptions::Shape{m, n, k};
}

Status BenchKernels(const Arguments& arguments) {
  LYCIA_ASSIGN_OR_RETURN(const BenchFlags flags, ReadBenchFlags(arguments));
  const std::string isa = arguments.Get("isa", "best");
  if (isa != "best" && isa != "every") return InvalidArgument("--isa=", isa, " must be best or every");
  KernelBenchOptions options = {.name = arguments.Get("name"), .every_isa = isa == "every"};
  options.dtypes = flags.dtypes;
  options.cpu = flags.cpu;
  options.seconds = flags.seconds;
  for (const std::string& text : arguments.All("shape")) {
    LYCIA_ASSIGN_OR_RETURN(const auto shape, ParseShape(text));
    options.shapes.push_back(shape);
  }
  if (options.shapes.empty()) options.shapes = Gpt2Shapes();

  const std::string clock = arguments.Get("clock", "wall");
  if (clock != "wall" && clock != "cpu") return InvalidArgument("--clock=", clock, " must be wall or cpu");
  options.cpu_clock = clock == "cpu";
  LYCIA_ASSIGN_OR_RETURN(options.tokens, arguments.GetInteger("tokens", options.tokens, 4, 1 << 24));
  LYCIA_ASSIGN_OR_RETURN(options.samples, arguments.GetInteger("samples", options.samples, 1, kMostSide));
  LYCIA_ASSIGN_OR_RETURN(options.heads, arguments.GetInteger("heads", options.heads, 1, kMostSide));
  if (!arguments.Get("sequence").empty()) {
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t sequence, arguments.GetInteger("sequence", 1, 1, kMostSide));
    options.sequences = {sequence};
  }
  LYCIA_ASSIGN_OR_RETURN(options.parameters, arguments.GetInteger("parameters", options.parameters, 1, std::int64_t{1} << 36));

  LYCIA_ASSIGN_OR_RETURN(const std::vector<KernelSpeed> rows, MeasureKernels(options));
  if (rows.empty())
    return InvalidArgument("--name=", options.name, " is no kernel of this bench; give a family (",
                           absl::StrJoin(KernelFamilyNames(), ", "), "), or run it without --name to see them all");
  std::fputs((flags.json ? KernelSpeedJson(rows) : KernelSpeedTable(rows)).c_str(), stdout);
  return OkStatus();
}

}  // namespace

Command BenchKernelsCommand() {
  return {
      .spec =
          {.name = "bench kernels",
           .summary = "measures the kernels against the most this processor can do",
           .flags = {{.name = "shape", .value = "M,N,K", .doc = "a matrix product; default: those of GPT-2 124M", .repeated = true},
                     {.name = "name", .value = "NAME", .doc = "only this kernel or family: " + absl::StrJoin(KernelFamilyNames(), ", ")},
                     {.name = "dtype", .value = "TYPE", .doc = "f32, bf16 or all (default all)"},
                     {.name = "isa", .value = "WHICH", .doc = "best, or every instruction set of this machine for products (default best)"},
                     {.name = "tokens", .value = "N", .doc = "rows of the kernels beside matrix products (default 1024)"},
                     {.name = "samples", .value = "N", .doc = "of attention (default 4)"},
                     {.name = "heads", .value = "N", .doc = "of attention (default 12)"},
                     {.name = "sequence", .value = "N", .doc = "tokens of a sample of attention (default: 64, 256 and 1024)"},
                     {.name = "parameters", .value = "N", .doc = "of the optimizer (default GPT-2 124M's)"},
                     {.name = "clock", .value = "CLOCK", .doc = "wall, or cpu: processor time of one thread, on a shared machine"},
                     {.name = "threads", .value = "N", .doc = "threads, one a core (default: all usable cores)"},
                     {.name = "milliseconds", .value = "N", .doc = "duration of each measurement (default 200)"},
                     {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}}},
      .run = BenchKernels};
}

}  // namespace lycia
