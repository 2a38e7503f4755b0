#include "launch/reuse_rates.h"

#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/mapped_conv.h"
#include "kernels/reuse/mapped_gemm.h"
#include "launch/peak.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

// Tables cleared, threads joined: measured on small partitions (docs/computation_reuse.md).
constexpr double kFixedSeconds = 20e-6;
// A GPU's: what finding rows launches beside the dense layer, a dozen kernels of two microseconds each.
constexpr double kLaunchSeconds = 25e-6;

StatusOr<ReuseRates> RatesOfCpu(const TrainerOptions& options) {
  const std::unique_ptr<Device> device = NewCpuDevice(options.cpu);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  return ReuseRates{
      .flops = MeasureGemmPeak(*stream, options.precision), .bytes_per_s = MeasureCopyRate(*stream), .fixed_seconds = kFixedSeconds};
}

// What is timed on a GPU, and its memory.
class GpuProbe {
 public:
  static StatusOr<GpuRates> Measure(Device& device, DType dtype, const ProbeSizes& sizes) {
    GpuProbe probe(device, dtype);
    LYCIA_ASSIGN_OR_RETURN(probe.stream_, device.NewStream());
    LYCIA_ASSIGN_OR_RETURN(const ReuseRates rows, probe.Rows(sizes.width));
    LYCIA_ASSIGN_OR_RETURN(const ReuseRates patches, probe.Patches(sizes, rows));
    return GpuRates{rows, patches};
  }

 private:
  GpuProbe(Device& device, DType dtype) : device_(device), dtype_(dtype) {}

  StatusOr<ReuseRates> Rows(std::int64_t width) {
    const Shape square{width, width};
    LYCIA_ASSIGN_OR_RETURN(const Tensor a, Random(square));
    LYCIA_ASSIGN_OR_RETURN(const Tensor b, Random(square));
    LYCIA_ASSIGN_OR_RETURN(const Tensor c, Make(dtype_, square));
    LYCIA_ASSIGN_OR_RETURN(const Tensor map_memory, Make(DType::kU8, {IndexMapBytes(width)}));
    LYCIA_ASSIGN_OR_RETURN(const Tensor workspace, Make(DType::kU8, {BuildIndexMapBytes({}, dtype_, width)}));
    const IndexMap map = IndexMapIn(map_memory.data, MapDim::kM, MapKind::kPartition, width);
    BuildIndexMap(*stream_, {.rows = AsMatrix(a), .map = map, .workspace = workspace.data});
    const GemmArgs product{.a = AsMatrix(a), .b = AsMatrix(b), .c = AsMatrix(c)};
    LYCIA_ASSIGN_OR_RETURN(const double dense, Seconds([&] { Gemm(*stream_, product); }));
    LYCIA_ASSIGN_OR_RETURN(const double mapped, Seconds([&] { MappedGemm(*stream_, {.map = map, .gemm = product}); }));
    LYCIA_ASSIGN_OR_RETURN(const double copy, Seconds([&] { stream_->Copy(c.data, a.data, a.bytes()); }));
    const double flops = 2.0 * static_cast<double>(width) * static_cast<double>(width) * static_cast<double>(width);
    return ReuseRates{.flops = flops / dense,
                      .bytes_per_s = 2.0 * static_cast<double>(a.bytes()) / copy,
                      .fixed_seconds = kLaunchSeconds,
                      .mapped_flops = flops / mapped};
  }

  StatusOr<ReuseRates> Patches(const ProbeSizes& sizes, ReuseRates rates) {
    const ConvAxis axis{.in = sizes.image_width, .filter = 3, .pad_before = 1, .pad_after = 1};
    const ConvShape s{.N = sizes.images, .C = sizes.channels, .K = sizes.channels, .height = axis, .width = axis};
    const std::int64_t patches = s.N * s.P() * s.Q();
    LYCIA_ASSIGN_OR_RETURN(const Tensor in, Random({s.N, s.H(), s.W(), s.C}));
    LYCIA_ASSIGN_OR_RETURN(const Tensor weight, Random({s.K, s.R(), s.S(), s.C}));
    LYCIA_ASSIGN_OR_RETURN(const Tensor out, Make(dtype_, {s.N, s.P(), s.Q(), s.K}));
    LYCIA_ASSIGN_OR_RETURN(const Tensor map_memory, Make(DType::kU8, {IndexMapBytes(patches)}));
    LYCIA_ASSIGN_OR_RETURN(const Tensor workspace, Make(DType::kU8, {BuildPatchMapBytes({}, dtype_, s)}));
    const IndexMap map = IndexMapIn(map_memory.data, MapDim::kM, MapKind::kPartition, patches);
    BuildPatchMap(*stream_, {.shape = s, .in = in, .map = map, .workspace = workspace.data});
    LYCIA_ASSIGN_OR_RETURN(const double dense,
                           Seconds([&] { ConvForward(*stream_, {.shape = s, .in = in, .weight = weight, .out = out}); }));
    LYCIA_ASSIGN_OR_RETURN(const double mapped, Seconds([&] {
                             MappedConvForward(*stream_, {.map = map, .shape = s, .in = in, .weight = weight, .c = AsMatrix(out)});
                           }));
    rates.flops = s.flops() / dense;
    rates.mapped_flops = s.flops() / mapped;
    return rates;
  }

  StatusOr<Tensor> Make(DType dtype, const Shape& shape) {
    const TensorSpec spec{dtype, shape};
    LYCIA_ASSIGN_OR_RETURN(Buffer memory, device_.Allocate(spec.bytes(), MemoryKind::kDevice));
    memory_.push_back(std::move(memory));
    return Tensor{memory_.back().data(), dtype, shape};
  }
  StatusOr<Tensor> Random(const Shape& shape) {
    LYCIA_ASSIGN_OR_RETURN(const Tensor tensor, Make(dtype_, shape));
    FillNormal(*stream_, {.out = tensor, .random = RandomStream(1, "reuse.rates", static_cast<std::int64_t>(memory_.size()))});
    return tensor;
  }
  // The best of several runs, each long beside its launch.
  StatusOr<double> Seconds(const std::function<void()>& launch) {
    constexpr int kWarmUps = 2, kRuns = 5;
    double best = 0;
    for (int run = 0; run < kWarmUps + kRuns; ++run) {
      LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
      const auto begin = std::chrono::steady_clock::now();
      launch();
      LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (run == kWarmUps || (run > kWarmUps && seconds < best)) best = seconds;
    }
    return best;
  }

  Device& device_;
  DType dtype_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> memory_;
};

}  // namespace

StatusOr<GpuRates> MeasureGpuRates(Device& device, DType dtype, const ProbeSizes& sizes) { return GpuProbe::Measure(device, dtype, sizes); }

Status MeasureReuseRates(Session& session, const TrainerOptions& options, ReuseTraining& training) {
  GpuRates rates;
  const auto measure = [&]() -> Status {
    if (options.device != DeviceKind::kCuda) {
      LYCIA_ASSIGN_OR_RETURN(rates.rows, RatesOfCpu(options));
      rates.patches = rates.rows;
      return OkStatus();
    }
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, NewCudaDevice(options.gpu, options.cuda));
    LYCIA_ASSIGN_OR_RETURN(rates, MeasureGpuRates(*device, options.precision, {}));
    return OkStatus();
  };
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, session.rank() == 0 ? measure() : OkStatus()));
  LYCIA_RETURN_IF_ERROR(
      session.world->Broadcast(Tensor{&rates, DType::kU8, {static_cast<std::int64_t>(sizeof rates)}}, 0, Tag::kSetup, {}).Wait());
  training.rates = rates.rows;
  training.patch_rates = rates.patches;
  return OkStatus();
}

}  // namespace lycia
