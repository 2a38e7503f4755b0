// What `lycia bench kernels` prints.
#include "absl/strings/str_format.h"
#include "launch/kernel_bench.h"
#include "runtime/io/json.h"

namespace lycia {

std::string KernelSpeedTable(const std::vector<KernelSpeed>& rows) {
  std::string text =
      absl::StrFormat("%-26s %9s %6s %6s %-5s %-12s %9s %9s %7s\n", "name", "m", "n", "k", "dtype", "isa", "speed", "peak", "share");
  for (const KernelSpeed& row : rows) {
    const bool memory = row.limited_by_memory();
    text += absl::StrFormat("%-26s %9d %6d %6d %-5s %-12s %9.1f %9.1f %6.1f%% %s\n", row.name, row.m, row.n, row.k, Name(row.dtype),
                            row.isa, memory ? row.gbps : row.gflops, memory ? row.peak_gbps : row.peak_gflops, 100 * row.share_of_peak(),
                            memory ? "GB/s" : "GFLOP/s");
  }
  return text;
}

std::string KernelSpeedJson(const std::vector<KernelSpeed>& rows) {
  std::string text = "[";
  for (const KernelSpeed& row : rows) {
    const bool memory = row.limited_by_memory();
    const char* unit = memory ? "gbps" : "gflops";
    text += absl::StrFormat(
        "%s\n{\"name\": %s, \"m\": %d, \"n\": %d, \"k\": %d, \"dtype\": \"%s\", \"isa\": %s, \"%s\": %.2f, \"peak_%s\": %.2f, "
        "\"share_of_peak\": %.4f}",
        text.size() == 1 ? "" : ",", JsonQuote(row.name), row.m, row.n, row.k, Name(row.dtype), JsonQuote(row.isa), unit,
        memory ? row.gbps : row.gflops, unit, memory ? row.peak_gbps : row.peak_gflops, row.share_of_peak());
  }
  return text + "\n]\n";
}

}  // namespace lycia
