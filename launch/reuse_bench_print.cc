// What `lycia bench reuse` prints.
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launch/reuse_bench.h"
#include "runtime/io/json.h"

namespace lycia {

std::string ReuseSpeedTable(const std::vector<ReuseSpeed>& rows) {
  std::string text = absl::StrFormat("%-16s %5s %-5s %-9s %-12s %5s %9s %8s %7s %7s %7s %7s %7s %7s %6s %7s %5s %5s\n", "widths", "rows",
                                     "dtype", "policy", "isa", "r", "dense us", "GFLOP/s", "hash", "gather", "gemm", "expand", "reuse",
                                     "GB/s", "x", "share", "r*", "bits");
  for (const ReuseSpeed& row : rows) {
    text += absl::StrFormat("%-16s %5d %-5s %-9s %-12s %5.3f %9.0f %8.1f %7.0f %7.0f %7.0f %7.0f %7.0f %7.1f %6.2f %6.1f%% %5.2f %5s\n",
                            absl::StrJoin(row.region.widths, ">"), row.region.rows, Name(row.region.dtype), row.policy, row.isa, row.ratio,
                            row.dense_us, row.dense_gflops(), row.hash_us, row.gather_us, row.gemm_us, row.expand_us, row.reuse_us,
                            row.copy_gbps, row.speedup(), 100 * row.share_of_limit(), row.break_even, row.same_bits ? "same" : "DIFFER");
  }
  return text;
}

std::string ReuseSpeedJson(const std::vector<ReuseSpeed>& rows) {
  std::string text = "[";
  for (const ReuseSpeed& row : rows) {
    text += absl::StrFormat(
        "%s\n{\"rows\": %d, \"widths\": [%s], \"dtype\": \"%s\", \"policy\": %s, \"isa\": %s, \"ratio\": %.4f, \"dense_us\": %.1f, "
        "\"dense_gflops\": %.2f, "
        "\"hash_us\": %.1f, \"gather_us\": %.1f, \"gemm_us\": %.1f, \"expand_us\": %.1f, \"reuse_us\": %.1f, \"copy_gbps\": %.2f, "
        "\"speedup\": %.4f, \"share_of_limit\": %.4f, \"break_even\": %.4f, \"same_bits\": %s}",
        text.size() == 1 ? "" : ",", row.region.rows, absl::StrJoin(row.region.widths, ", "), Name(row.region.dtype), JsonQuote(row.policy),
        JsonQuote(row.isa), row.ratio, row.dense_us, row.dense_gflops(), row.hash_us, row.gather_us, row.gemm_us, row.expand_us,
        row.reuse_us, row.copy_gbps, row.speedup(), row.share_of_limit(), row.break_even, row.same_bits ? "true" : "false");
  }
  return text + "\n]\n";
}

}  // namespace lycia
