// How fast the kernels are on this machine, each beside the most that the processor can do: `lycia bench kernels`.
#ifndef LYCIA_LAUNCH_KERNEL_BENCH_H_
#define LYCIA_LAUNCH_KERNEL_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/device/device.h"

namespace lycia {

struct KernelBenchOptions {
  struct Shape {
    std::int64_t m = 0, n = 0, k = 0;
  };
  std::vector<Shape> shapes;  // of matrix products: c [m, n], depth k
  std::vector<DType> dtypes;  // f32, bf16
  std::string name;           // only the rows of this name; "": all
  bool every_isa = false;     // every instruction set that this machine has, not only the best
  CpuOptions cpu;
  double seconds = 0.2;  // of each measurement
};

// One measured kernel.
struct KernelSpeed {
  std::string name;  // "gemm_forward"
  std::int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kF32;
  std::string isa;         // "avx512 f32"
  double gflops = 0;       // median of the repetitions
  double peak_gflops = 0;  // of a loop on registers, same instruction set and threads, measured just before
  double share_of_peak() const { return peak_gflops > 0 ? gflops / peak_gflops : 0; }
};

// The matrix multiplications of a linear layer of GPT-2 124M at 256 and 1024 tokens.
std::vector<KernelBenchOptions::Shape> Gpt2Shapes();

// Every kernel of the table in kernel_bench.cc. InvalidArgument where there are no threads or cores as asked for.
StatusOr<std::vector<KernelSpeed>> MeasureKernels(const KernelBenchOptions& options);

std::string KernelSpeedTable(const std::vector<KernelSpeed>& rows);
// A JSON array of objects with name, m, n, k, dtype, isa, gflops, peak_gflops and share_of_peak.
std::string KernelSpeedJson(const std::vector<KernelSpeed>& rows);

// Median seconds of one call; calls are timed in groups that last long enough to be read off a clock, for `seconds` in all, at least
// thrice.
double MedianSeconds(double seconds, absl::FunctionRef<void()> call);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_KERNEL_BENCH_H_
