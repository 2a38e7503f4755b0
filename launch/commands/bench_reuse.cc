// lycia bench reuse: what computation reuse costs and saves here.
#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "launch/commands/bench_flags.h"
#include "launch/commands/commands.h"
#include "launch/reuse_bench.h"

namespace lycia {
namespace {

Status BenchReuse(const Arguments& arguments) {
  LYCIA_ASSIGN_OR_RETURN(const BenchFlags flags, ReadBenchFlags(arguments));
  ReuseBenchOptions options = {.dtypes = flags.dtypes, .cpu = flags.cpu, .seconds = flags.seconds};
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t rows, arguments.GetInteger("rows", 4096, 1, 1 << 20));
  const std::string policy = arguments.Get("policy", "exact");
  if (policy == "quantized") options.policy = ReusePolicy::kQuantized;
  if (policy == "lsh") options.policy = ReusePolicy::kLsh;
  if (policy != "exact" && options.policy == ReusePolicy::kExact) {
    return InvalidArgument("--policy=", policy, " must be exact, quantized or lsh");
  }
  options.copy_rows = arguments.Has("copy-rows");
  const std::string widths = arguments.Get("widths"), ratios = arguments.Get("ratios", "1,0.75,0.5,0.25,0.1");
  options.regions = ReuseBenchRegions();
  if (!widths.empty()) {
    options.regions.resize(1);
    options.regions[0].widths.clear();
    for (const absl::string_view text : absl::StrSplit(widths, ',')) {
      std::int64_t width = 0;
      if (!absl::SimpleAtoi(text, &width) || width < 1 || width > 1 << 20) {
        return InvalidArgument("--widths=", widths, " must be two or more numbers of features, as in 1024,4096,1024");
      }
      options.regions[0].widths.push_back(width);
    }
  }
  for (ReuseRegion& region : options.regions) region.rows = rows;
  for (const absl::string_view text : absl::StrSplit(ratios, ',')) {
    double ratio = 0;
    if (!absl::SimpleAtod(text, &ratio)) return InvalidArgument("--ratios=", ratios, " must be numbers in (0, 1], as in 1,0.5,0.1");
    options.ratios.push_back(ratio);
  }
  LYCIA_ASSIGN_OR_RETURN(const std::vector<ReuseSpeed> speeds, MeasureReuse(options));
  std::fputs((flags.json ? ReuseSpeedJson(speeds) : ReuseSpeedTable(speeds)).c_str(), stdout);
  const bool same = std::all_of(speeds.begin(), speeds.end(), [](const ReuseSpeed& speed) { return speed.same_bits; });
  return same ? OkStatus() : absl::InternalError("reuse and the dense product differ; please report this machine and the table above");
}

}  // namespace

Command BenchReuseCommand() {
  return {
      .spec = {.name = "bench reuse",
               .summary = "measures products of distinct rows only against dense ones and what memory and arithmetic allow",
               .flags = {{.name = "widths", .value = "K,..,N", .doc = "features of a region's layers, GELU between them (default: a set)"},
                         {.name = "rows", .value = "M", .doc = "rows (default 4096)"},
                         {.name = "ratios", .value = "R,..", .doc = "distinct rows to rows (default 1,0.75,0.5,0.25,0.1)"},
                         {.name = "policy", .value = "POLICY", .doc = "exact, quantized or lsh (default exact)"},
                         {.name = "copy-rows", .value = "", .doc = "copy distinct rows before the product, which else gathers them"},
                         {.name = "dtype", .value = "TYPE", .doc = "f32, bf16 or all (default all)"},
                         {.name = "threads", .value = "N", .doc = "threads, one a core (default: all usable cores)"},
                         {.name = "milliseconds", .value = "N", .doc = "duration of each measurement (default 200)"},
                         {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}}},
      .run = BenchReuse};
}

}  // namespace lycia
