// Times the CUDA kernels and prints the share of memory bandwidth of each, which is what bounds them; then the attention
// (bench_attention_cuda.h).
//
// Columns as in a kernel table: microseconds a launch, gigabytes a second of the bytes named in the kernel's header comment, share of the
// card's bandwidth as its memory clock and bus width give it, and share of what a device-to-device copy of 1 GiB reaches here.
#include "tests/gpu/bench_cuda.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <memory>

#include "kernels/norm/layer_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "runtime/core/check.h"
#include "runtime/device/device.h"
#include "tests/gpu/bench_attention_cuda.h"
#include "tests/gpu/bench_conv_cuda.h"
#include "tests/gpu/bench_gemm_cuda.h"
#include "tests/gpu/bench_kernels_cuda.h"
#include "tests/gpu/bench_rate_cuda.h"
#include "tests/gpu/bench_reuse_cuda.h"

namespace lycia {
namespace {

// Two transfers a clock of the memory bus. 0 where the driver does not tell.
double PeakBytesPerSecond() {
  int kilohertz = 0, bits = 0;
  cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, 0);
  cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, 0);
  return 2.0 * kilohertz * 1e3 * bits / 8;
}

void BenchLayerNorm(RateBench& bench, DType dtype, std::int64_t rows, std::int64_t cols) {
  const Tensor x = bench.Make(dtype, {rows, cols}), y = bench.Make(dtype, {rows, cols}), dy = bench.Make(dtype, {rows, cols});
  const DType wide = ArithmeticDType(dtype);
  const Tensor gamma = bench.Make(dtype, {cols}), beta = bench.Make(dtype, {cols}), mean = bench.Make(wide, {rows}),
               rstd = bench.Make(wide, {rows}), dgamma = bench.Make(wide, {cols}), dbeta = bench.Make(wide, {cols});
  const double matrix = static_cast<double>(x.bytes());
  char name[96];
  const auto title = [&](const char* what) {
    std::snprintf(name, sizeof(name), "%s %s %lld x %lld", what, Name(dtype).data(), static_cast<long long>(rows),
                  static_cast<long long>(cols));
    return name;
  };
  bench.Run(title("layer_norm forward"), 2 * matrix, [&](Stream& stream) {
    LayerNormForward(stream, {.in = x, .gamma = gamma, .beta = beta, .out = y, .mean = mean, .rstd = rstd});
  });
  bench.Run(title("layer_norm din"), 3 * matrix, [&](Stream& stream) {
    LayerNormBackwardInput(stream, {.dout = dy, .in = x, .gamma = gamma, .mean = mean, .rstd = rstd, .din = y});
  });
  bench.Run(title("layer_norm dgamma dbeta"), 2 * matrix, [&](Stream& stream) {
    LayerNormBackwardWeight(stream, {.dout = dy, .in = x, .mean = mean, .rstd = rstd, .dgamma = dgamma, .dbeta = dbeta});
  });
  bench.Drop();
}

void BenchOptimizer(RateBench& bench, std::int64_t n) {
  const Tensor w = bench.Make(DType::kF32, {n}), g = bench.Make(DType::kF32, {n}), m = bench.Make(DType::kF32, {n}),
               v = bench.Make(DType::kF32, {n});
  const Tensor model = bench.Make(DType::kBF16, {n});
  const Tensor sums = bench.Make(DType::kF64, {NumSquaredNormBlocks(n)}), scalars = bench.Make(DType::kF64, {4});
  const StepScalars host{1e-3, 1, 0.1, 0.05};
  bench.stream().Copy(scalars.data, &host, sizeof(host));
  LYCIA_CHECK_OK(bench.stream().Synchronize());
  const double bytes = static_cast<double>(w.bytes());
  char name[96];
  std::snprintf(name, sizeof(name), "adamw f32 %lld", static_cast<long long>(n));
  bench.Run(name, 7 * bytes, [&](Stream& stream) {
    AdamW(stream,
          {.weight = w, .gradient = g, .m = m, .v = v, .weight_decay = 0.1, .scalars = static_cast<const StepScalars*>(scalars.data)});
  });
  std::snprintf(name, sizeof(name), "adamw f32 and bf16 weights %lld", static_cast<long long>(n));
  bench.Run(name, 7.5 * bytes, [&](Stream& stream) {
    AdamW(stream, {.weight = w,
                   .model_weight = model,
                   .gradient = g,
                   .m = m,
                   .v = v,
                   .weight_decay = 0.1,
                   .scalars = static_cast<const StepScalars*>(scalars.data)});
  });
  std::snprintf(name, sizeof(name), "squared_norm f32 %lld", static_cast<long long>(n));
  bench.Run(name, bytes, [&](Stream& stream) { SquaredNormBlocks(stream, {.x = g, .block_sums = static_cast<double*>(sums.data)}); });
  bench.Drop();
}

}  // namespace

Status BenchCudaKernels() {
  StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
  if (!device.ok()) return device.status();
  RateBench bench(**device);
  const double peak = PeakBytesPerSecond();
  bench.set_peak_rate(peak);
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  std::printf("%s, runtime %d, driver %d, peak %.1f GB/s; median of %d measurements of %d launches\n", (*device)->name().c_str(), runtime,
              driver, peak / 1e9, kMeasurements, kLaunches);
  constexpr std::int64_t kCopyBytes = std::int64_t{1} << 30;
  const Tensor from = bench.Make(DType::kU8, {kCopyBytes}), to = bench.Make(DType::kU8, {kCopyBytes});
  bench.Run("copy 1 GiB (read and write)", 2.0 * kCopyBytes, [&](Stream& stream) { stream.Copy(to.data, from.data, kCopyBytes); });
  bench.Drop();
  // 256 MiB a matrix: several times the last-level cache. Hidden sizes of GPT-2 (768, 1,600), of 7B and 175B models, and an odd one.
  for (const std::int64_t cols : {768, 1600, 4096, 12288, 1001}) BenchLayerNorm(bench, DType::kF32, (std::int64_t{1} << 26) / cols, cols);
  for (const std::int64_t cols : {768, 1600, 4096, 12288}) BenchLayerNorm(bench, DType::kBF16, (std::int64_t{1} << 27) / cols, cols);
  BenchLayerNorm(bench, DType::kF64, (std::int64_t{1} << 25) / 4096, 4096);
  // What one micro-batch of 8 x 1,024 tokens gives a kernel: in cache, launch cost included.
  BenchLayerNorm(bench, DType::kF32, 8192, 768);
  BenchOptimizer(bench, std::int64_t{1} << 28);
  BenchCudaMemoryKernels(bench);
  BenchCudaGemm(**device);
  BenchCudaConv(**device);
  BenchCudaReuse(**device);
  BenchCudaAttention(**device);
  return OkStatus();
}

}  // namespace lycia
