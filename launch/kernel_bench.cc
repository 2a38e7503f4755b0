#include "launch/kernel_bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <random>

#include "absl/strings/str_format.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

using Product = KernelBenchOptions::Shape;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// What a measurement needs besides its kernel.
struct Bench {
  const KernelBenchOptions& options;
  Device& device;
  Stream& stream;
  std::vector<KernelSpeed>& rows;
};

// GFLOP/s of all threads at once: the best of five, as a peak is.
double MeasurePeak(const cpu::MicroKernel& kernel, ThreadPool& pool) {
  std::int64_t rounds = 1000;
  double best = 0;
  for (int repetition = 0; repetition < 5;) {
    std::vector<double> operations(static_cast<std::size_t>(pool.threads()));
    const double start = Now();
    pool.Run([&](int thread) {
      alignas(64) float sink[16] = {};
      operations[static_cast<std::size_t>(thread)] = kernel.peak(rounds, sink);
    });
    const double seconds = Now() - start;
    if (seconds < 0.01) {
      rounds *= 4;
      continue;
    }
    double all = 0;
    for (const double of_thread : operations) all += of_thread;
    best = std::max(best, all / seconds / 1e9);
    ++repetition;
  }
  return best;
}

// Matrices with values between -1 and 1, none of them subnormal.
struct Operand {
  static StatusOr<Operand> Make(Device& device, DType dtype, std::int64_t rows, std::int64_t cols) {
    Operand operand;
    LYCIA_ASSIGN_OR_RETURN(operand.buffer, device.Allocate(rows * cols * SizeOf(dtype), MemoryKind::kDevice));
    operand.matrix = {operand.buffer.data(), dtype, rows, cols, cols};
    std::minstd_rand random(1);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const float value = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 1000.0f;
      if (dtype == DType::kF32) static_cast<float*>(operand.matrix.data)[i] = value;
      if (dtype == DType::kBF16) static_cast<BFloat16*>(operand.matrix.data)[i] = BFloat16(value);
    }
    return operand;
  }
  Buffer buffer;
  Matrix matrix;
};

// The products of a linear layer y [m, n] = x [m, k] W [k, n], as in gemm.h, and the tied head, whose W is stored transposed.
enum class Use { kForward, kForwardPacked, kHead, kInputGradient, kWeightGradient };
constexpr struct {
  Use use;
  const char* name;
} kUses[] = {{Use::kForwardPacked, "gemm_forward_packed"},
             {Use::kForward, "gemm_forward"},
             {Use::kHead, "gemm_head"},
             {Use::kInputGradient, "gemm_input_gradient"},
             {Use::kWeightGradient, "gemm_weight_gradient"}};

// Seconds of one product c [m, n] of depth k. A gradient of weights is added up in f32.
StatusOr<double> TimeGemm(Bench& bench, Use use, DType dtype, const Product& s) {
  const bool transpose_a = use == Use::kWeightGradient, transpose_b = use == Use::kHead || use == Use::kInputGradient;
  LYCIA_ASSIGN_OR_RETURN(const Operand a, Operand::Make(bench.device, dtype, transpose_a ? s.k : s.m, transpose_a ? s.m : s.k));
  LYCIA_ASSIGN_OR_RETURN(const Operand b, Operand::Make(bench.device, dtype, transpose_b ? s.n : s.k, transpose_b ? s.k : s.n));
  LYCIA_ASSIGN_OR_RETURN(const Operand c, Operand::Make(bench.device, DType::kF32, s.m, s.n));
  GemmArgs args = {.a = a.matrix, .transpose_a = transpose_a, .c = c.matrix, .accumulate = use == Use::kWeightGradient};
  Buffer packed;
  if (use == Use::kForwardPacked || use == Use::kInputGradient) {
    LYCIA_ASSIGN_OR_RETURN(packed, bench.device.Allocate(PackedMatrixBytes(dtype, s.k, s.n), MemoryKind::kDevice));
    args.packed_b = {packed.data(), dtype, s.k, s.n};
    PackMatrix(bench.stream, {.b = b.matrix, .transpose_b = transpose_b, .to = args.packed_b});
  } else {
    args.b = b.matrix;
    args.transpose_b = transpose_b;
  }
  return MedianSeconds(bench.options.seconds, [&] { Gemm(bench.stream, args); });
}

Status MeasureGemm(Bench& bench) {
  for (const DType dtype : bench.options.dtypes) {
    std::vector<const cpu::MicroKernel*> kernels = {&cpu::SelectedKernel(dtype)};
    if (bench.options.every_isa) kernels = cpu::UsableKernels(dtype, cpu::DetectGemmFeatures());
    for (const cpu::MicroKernel* kernel : kernels) {
      cpu::internal::SelectKernel(dtype, kernel);
      const double peak = MeasurePeak(*kernel, *bench.stream.pool());
      for (const auto& [use, name] : kUses) {
        if (!bench.options.name.empty() && bench.options.name != name) continue;
        for (const Product& s : bench.options.shapes) {
          LYCIA_ASSIGN_OR_RETURN(const double seconds, TimeGemm(bench, use, dtype, s));
          const double flops = 2 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
          bench.rows.push_back({.name = name,
                                .m = s.m,
                                .n = s.n,
                                .k = s.k,
                                .dtype = dtype,
                                .isa = kernel->name,
                                .gflops = flops / seconds / 1e9,
                                .peak_gflops = peak});
        }
      }
    }
    cpu::internal::SelectKernel(dtype, nullptr);
  }
  return OkStatus();
}

// A kernel family is measured by adding its function here.
constexpr std::array<Status (*)(Bench&), 1> kFamilies = {MeasureGemm};

}  // namespace

std::vector<KernelBenchOptions::Shape> Gpt2Shapes() {
  std::vector<KernelBenchOptions::Shape> shapes;
  for (const std::int64_t tokens : {256, 1024}) {
    for (const auto& [n, k] : {std::pair{768, 768}, {2304, 768}, {3072, 768}, {768, 3072}, {50257, 768}}) shapes.push_back({tokens, n, k});
  }
  return shapes;
}

double MedianSeconds(double seconds, absl::FunctionRef<void()> call) {
  call();  // pages are touched, caches filled
  const double first = Now();
  call();
  const double once = std::max(Now() - first, 1e-9);
  const int group = std::max(1, static_cast<int>(2e-3 / once));
  std::vector<double> times;
  for (const double start = Now(); times.size() < 3 || Now() - start < seconds;) {
    const double begin = Now();
    for (int i = 0; i < group; ++i) call();
    times.push_back((Now() - begin) / group);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

StatusOr<std::vector<KernelSpeed>> MeasureKernels(const KernelBenchOptions& options) {
  const std::unique_ptr<Device> device = NewCpuDevice(options.cpu);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  std::vector<KernelSpeed> rows;
  Bench bench{options, *device, *stream, rows};
  for (const auto& family : kFamilies) LYCIA_RETURN_IF_ERROR(family(bench));
  return rows;
}

std::string KernelSpeedTable(const std::vector<KernelSpeed>& rows) {
  std::string text =
      absl::StrFormat("%-22s %6s %6s %6s %-5s %-12s %9s %9s %7s\n", "name", "m", "n", "k", "dtype", "isa", "GFLOP/s", "peak", "share");
  for (const KernelSpeed& row : rows) {
    text += absl::StrFormat("%-22s %6d %6d %6d %-5s %-12s %9.1f %9.1f %6.1f%%\n", row.name, row.m, row.n, row.k, Name(row.dtype), row.isa,
                            row.gflops, row.peak_gflops, 100 * row.share_of_peak());
  }
  return text;
}

std::string KernelSpeedJson(const std::vector<KernelSpeed>& rows) {
  std::string text = "[";
  for (const KernelSpeed& row : rows) {
    text += absl::StrFormat(
        "%s\n{\"name\": %s, \"m\": %d, \"n\": %d, \"k\": %d, \"dtype\": \"%s\", \"isa\": %s, \"gflops\": %.2f, \"peak_gflops\": %.2f, "
        "\"share_of_peak\": %.4f}",
        text.size() == 1 ? "" : ",", JsonQuote(row.name), row.m, row.n, row.k, Name(row.dtype), JsonQuote(row.isa), row.gflops,
        row.peak_gflops, row.share_of_peak());
  }
  return text + "\n]\n";
}

}  // namespace lycia
