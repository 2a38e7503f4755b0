// lycia bench conv: how fast convolutions are here, beside the plain product of equal sizes and an explicit lowering.
#include <cstdio>
#include <string>

#include "launch/commands/bench_flags.h"
#include "launch/commands/commands.h"
#include "launch/conv_bench.h"

namespace lycia {
namespace {

Status BenchConv(const Arguments& arguments) {
  LYCIA_ASSIGN_OR_RETURN(const BenchFlags flags, ReadBenchFlags(arguments));
  ConvBenchOptions options;
  options.dtypes = flags.dtypes;
  options.cpu = flags.cpu;
  options.seconds = flags.seconds;
  const std::string layer = arguments.Get("layer");
  const std::string use = arguments.Get("use", "all");
  if (use != "all" && use != "forward" && use != "input_gradient" && use != "weight_gradient") {
    return InvalidArgument("--use=", use, " must be forward, input_gradient, weight_gradient or all");
  }
  if (use != "all") options.uses = {use};
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t images, arguments.GetInteger("images", 8, 1, 4096));
  for (const ConvLayer& one : ResNet50Layers(images)) {
    if (one.name.find(layer) != std::string::npos) options.layers.push_back(one);
  }
  if (options.layers.empty()) return InvalidArgument("--layer=", layer, " is in no layer's name; run it without --layer to see them");

  LYCIA_ASSIGN_OR_RETURN(const std::vector<ConvSpeed> rows, MeasureConvolutions(options));
  std::fputs((flags.json ? ConvSpeedJson(rows) : ConvSpeedTable(rows)).c_str(), stdout);
  return OkStatus();
}

}  // namespace

Command BenchConvCommand() {
  return {.spec = {.name = "bench conv",
                   .summary = "measures convolutions against products of equal sizes and an explicit lowering",
                   .flags = {{.name = "layer", .value = "TEXT", .doc = "only layers of ResNet-50 whose name has this in it (default all)"},
                             {.name = "images", .value = "N", .doc = "images of a batch (default 8)"},
                             {.name = "use", .value = "USE", .doc = "forward, input_gradient, weight_gradient or all (default all)"},
                             {.name = "dtype", .value = "TYPE", .doc = "f32, bf16 or all (default all)"},
                             {.name = "threads", .value = "N", .doc = "threads, one a core (default: all usable cores)"},
                             {.name = "milliseconds", .value = "N", .doc = "duration of each measurement (default 200)"},
                             {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}}},
          .run = BenchConv};
}

}  // namespace lycia
