#include "launch/reuse_run.h"

#include "absl/strings/str_format.h"
#include "launch/peak.h"

namespace lycia {
namespace {

constexpr const char* kReuseState = "reuse";

// Tables cleared, threads joined: measured on small partitions (docs/computation_reuse.md).
constexpr double kFixedSeconds = 20e-6;

const char* NameOf(ReuseUse use) { return use == ReuseUse::kReuse ? "reuse" : use == ReuseUse::kMeasure ? "measure" : "dense"; }

}  // namespace

StatusOr<ReuseRates> MeasureReuseRates(Session& session, const CpuOptions& cpu, DType dtype) {
  ReuseRates rates{.fixed_seconds = kFixedSeconds};
  Status measured = OkStatus();
  if (session.rank() == 0) {
    const std::unique_ptr<Device> device = NewCpuDevice(cpu);
    StatusOr<std::unique_ptr<Stream>> stream = device->NewStream();
    measured = stream.status();
    if (stream.ok()) {
      rates.flops = MeasureGemmPeak(**stream, dtype);
      rates.bytes_per_s = MeasureCopyRate(**stream);
    }
  }
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, measured));
  LYCIA_RETURN_IF_ERROR(
      session.world->Broadcast(Tensor{&rates, DType::kU8, {static_cast<std::int64_t>(sizeof rates)}}, 0, Tag::kSetup, {}).Wait());
  return rates;
}

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
  std::string text = "reuse of the last look:  layer                 use      distinct rows   relative error   width   predicted saving\n";
  for (const ReuseControl::Row& row : control.rows()) {
    absl::StrAppendFormat(&text, "                         %-21s %-8s %12.1f %% %14.2e %8.3g %15.1f %%\n", row.layer, NameOf(row.use),
                          100 * row.unique_ratio, row.relative_error, row.width, 100 * row.predicted_saving);
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
