// What `lycia bench step` prints.
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launch/step_bench.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

constexpr double kMilli = 1e3, kGiga = 1e9;

std::string PartText(const char* name, double seconds, double of) {
  return seconds <= 0 ? "" : absl::StrFormat("%s %.1f ms (%.0f%%), ", name, kMilli * seconds, 100 * seconds / of);
}

std::string JsonList(const std::vector<double>& values, double scale) {
  return absl::StrCat(
      "[", absl::StrJoin(values, ", ", [&](std::string* out, double value) { absl::StrAppendFormat(out, "%.9g", scale * value); }), "]");
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

}  // namespace

std::string StepSpeedText(const StepSpeed& s) {
  std::string text = absl::StrFormat("model    GPT-2 of %d layers, %d heads, hidden %d, vocabulary %d: %.1f M parameters, %s\n", s.layers,
                                     s.heads, s.hidden, s.vocabulary, static_cast<double>(s.parameters) / 1e6, s.precision);
  absl::StrAppendFormat(&text, "step     %d sequences of %d tokens, micro-batches of %d; %d rank%s of %d thread%s, schedule %s\n", s.batch,
                        s.sequence, s.micro_batch, s.ranks, s.ranks == 1 ? "" : "s", s.threads, s.threads == 1 ? "" : "s", s.schedule);
  absl::StrAppendFormat(&text, "kernels  matrix products %s, others %s\n", s.isa, s.vectors);
  if (!s.graphs.empty()) absl::StrAppendFormat(&text, "graphs   %s\n", s.graphs);
  absl::StrAppendFormat(&text, "time     median %.1f ms, best %.1f ms of %d steps after %d\n", kMilli * s.median_seconds(),
                        kMilli * s.best_seconds(), static_cast<int>(s.seconds.size()), s.warmup);
  absl::StrAppendFormat(&text, "speed    %.1f tokens/s, %.1f GFLOP/s (6 N and attention without its mask)", s.tokens_per_second(),
                        s.gflops());
  if (s.peak_gflops > 0) {
    absl::StrAppendFormat(&text, ", %.1f%% of %.1f on registers", 100 * s.share_of_peak(), s.peak_gflops);
  }
  const double mean = Mean(s.seconds);
  const StepParts& p = s.parts;
  const double rest = mean - p.forward - p.backward - p.messages - p.synchronize - p.update;
  absl::StrAppend(&text, "\nwhere    ", PartText("forward", p.forward, mean), PartText("backward", p.backward, mean),
                  PartText("messages", p.messages, mean), PartText("gradient sums", p.synchronize, mean),
                  PartText("update", p.update, mean), absl::StrFormat("rest %.1f ms; mean of rank 0\n", kMilli * rest));
  absl::StrAppendFormat(&text, "memory   %.3f GB planned (largest rank), %.3f GB resident at most while stepping (largest process)\n",
                        static_cast<double>(s.planned_bytes) / kGiga, static_cast<double>(s.peak_bytes) / kGiga);
  absl::StrAppend(&text, "loss    ");
  for (const double loss : s.losses) absl::StrAppendFormat(&text, " %.5f", loss);
  return text + "\n";
}

std::string StepSpeedJson(const StepSpeed& s) {
  std::string text = absl::StrFormat(
      "{\"layers\": %d, \"heads\": %d, \"hidden\": %d, \"vocabulary\": %d, \"sequence\": %d, \"batch\": %d, \"micro_batch\": %d,\n"
      "\"parameters\": %d, \"precision\": %s, \"schedule\": %s, \"ranks\": %d, \"threads\": %d, \"isa\": %s, \"vectors\": %s,\n",
      s.layers, s.heads, s.hidden, s.vocabulary, s.sequence, s.batch, s.micro_batch, s.parameters, JsonQuote(s.precision),
      JsonQuote(s.schedule), s.ranks, s.threads, JsonQuote(s.isa), JsonQuote(s.vectors));
  absl::StrAppendFormat(&text, "\"cuda_graphs\": %s, ", JsonQuote(s.graphs));
  absl::StrAppendFormat(&text, "\"warmup\": %d, \"median_ms\": %.4f, \"best_ms\": %.4f, \"step_ms\": ", s.warmup,
                        kMilli * s.median_seconds(), kMilli * s.best_seconds());
  absl::StrAppend(&text, JsonList(s.seconds, kMilli), ",\n");
  absl::StrAppendFormat(
      &text,
      "\"tokens_per_second\": %.3f, \"gflops\": %.3f, \"peak_gflops\": %.3f, \"share_of_peak\": %.4f,\n"
      "\"forward_ms\": %.4f, \"backward_ms\": %.4f, \"messages_ms\": %.4f, \"synchronize_ms\": %.4f, \"update_ms\": %.4f,\n"
      "\"planned_bytes\": %d, \"peak_bytes\": %d, \"loss\": ",
      s.tokens_per_second(), s.gflops(), s.peak_gflops, s.share_of_peak(), kMilli * s.parts.forward, kMilli * s.parts.backward,
      kMilli * s.parts.messages, kMilli * s.parts.synchronize, kMilli * s.parts.update, s.planned_bytes, s.peak_bytes);
  return text + JsonList(s.losses, 1) + "}\n";
}

}  // namespace lycia
