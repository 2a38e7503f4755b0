#include "launch/reuse_run.h"

#include <chrono>
#include <functional>
#include <memory>

#include "absl/strings/str_format.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "launch/peak.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr const char* kReuseState = "reuse";

// Tables cleared, threads joined: measured on small partitions (docs/computation_reuse.md).
constexpr double kFixedSeconds = 20e-6;
// A GPU's: what finding rows launches beside the dense layer, a dozen kernels of two microseconds each.
constexpr double kLaunchSeconds = 25e-6;

const char* NameOf(ReuseUse use) { return use == ReuseUse::kReuse ? "reuse" : use == ReuseUse::kMeasure ? "measure" : "dense"; }

}  // namespace

namespace {

StatusOr<ReuseRates> RatesOfCpu(const TrainerOptions& options) {
  const std::unique_ptr<Device> device = NewCpuDevice(options.cpu);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  return ReuseRates{
      .flops = MeasureGemmPeak(*stream, options.precision), .bytes_per_s = MeasureCopyRate(*stream), .fixed_seconds = kFixedSeconds};
}

// The best of several runs, each long beside its launch.
StatusOr<double> SecondsOnStream(Stream& stream, const std::function<void()>& launch) {
  constexpr int kWarmUps = 2, kRuns = 5;
  double best = 0;
  for (int run = 0; run < kWarmUps + kRuns; ++run) {
    LYCIA_RETURN_IF_ERROR(stream.Synchronize());
    const auto begin = std::chrono::steady_clock::now();
    launch();
    LYCIA_RETURN_IF_ERROR(stream.Synchronize());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (run == kWarmUps || (run > kWarmUps && seconds < best)) best = seconds;
  }
  return best;
}

StatusOr<ReuseRates> RatesOfGpu(const TrainerOptions& options) {
  constexpr std::int64_t kSize = 4096;
  const DType dtype = options.precision == DType::kBF16 ? DType::kBF16 : DType::kF32;
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, NewCudaDevice(options.gpu, options.cuda));
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  const std::int64_t bytes = kSize * kSize * SizeOf(dtype);
  LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device->Allocate(3 * bytes, MemoryKind::kDevice));
  const auto matrix = [&](int i) { return Tensor{static_cast<char*>(memory.data()) + i * bytes, dtype, {kSize, kSize}}; };
  for (const int i : {0, 1}) FillNormal(*stream, {.out = matrix(i), .random = RandomStream(1, "reuse.rates", i)});
  LYCIA_ASSIGN_OR_RETURN(const double product, SecondsOnStream(*stream, [&] {
                           Gemm(*stream, {.a = AsMatrix(matrix(0)), .b = AsMatrix(matrix(1)), .c = AsMatrix(matrix(2))});
                         }));
  LYCIA_ASSIGN_OR_RETURN(const double copy, SecondsOnStream(*stream, [&] { stream->Copy(matrix(2).data, memory.data(), bytes); }));
  return ReuseRates{.flops = 2.0 * kSize * kSize * kSize / product,
                    .bytes_per_s = 2.0 * static_cast<double>(bytes) / copy,
                    .fixed_seconds = kLaunchSeconds};
}

}  // namespace

StatusOr<ReuseRates> MeasureReuseRates(Session& session, const TrainerOptions& options) {
  ReuseRates rates;
  Status measured = OkStatus();
  if (session.rank() == 0) {
    const StatusOr<ReuseRates> own = options.device == DeviceKind::kCuda ? RatesOfGpu(options) : RatesOfCpu(options);
    measured = own.status();
    if (own.ok()) rates = *own;
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
