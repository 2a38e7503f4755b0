#include "launch/reuse_run.h"

#include "absl/strings/str_format.h"

namespace lycia {
namespace {

constexpr const char* kReuseState = "reuse";

const char* NameOf(ReuseUse use) { return use == ReuseUse::kReuse ? "reuse" : use == ReuseUse::kMeasure ? "measure" : "dense"; }

}  // namespace

void ReuseMetricsOf(const ReuseControl& control, std::vector<ReuseMetrics>& layers) {
  layers.clear();
  for (const ReuseControl::Row& row : control.rows()) {
    layers.push_back({.layer = row.layer.c_str(),
                      .use = NameOf(row.use),
                      .unique_ratio = row.unique_ratio,
                      .relative_error = row.relative_error,
                      .width = row.width,
                      .predicted_saving = row.predicted_saving});
  }
}

std::string ReuseTable(const ReuseControl& control) {
  std::string text = "reuse in the last step:  layer                 use      distinct rows   relative error   width   predicted saving\n";
  for (const ReuseControl::Row& row : control.rows()) {
    const std::string ratio = row.unique_ratio ? absl::StrFormat("%.1f %%", 100 * *row.unique_ratio) : "not counted";
    const std::string error = row.relative_error ? absl::StrFormat("%.2e", *row.relative_error) : "-";
    absl::StrAppendFormat(&text, "                         %-21s %-8s %13s %16s %7.3g %16.1f %%\n", row.layer, NameOf(row.use), ratio,
                          error, row.width, 100 * row.predicted_saving);
  }
  return text;
}

void SaveReuse(const Trainer& trainer, CheckpointState& state) {
  if (trainer.reuse() != nullptr) state.texts.emplace_back(kReuseState, trainer.reuse()->StateText());
}

Status RestoreReuse(const CheckpointState& state, Trainer& trainer) {
  if (trainer.reuse() == nullptr) return OkStatus();
  const StatusOr<std::string> text = state.Text(kReuseState);
  if (!text.ok()) return OkStatus();
  return Annotate(trainer.reuse()->RestoreText(*text), "reuse");
}

}  // namespace lycia
