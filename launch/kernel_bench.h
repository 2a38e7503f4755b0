// How fast the kernels are on this machine, each beside the most that the processor can do: `lycia bench kernels`.
#ifndef LYCIA_LAUNCH_KERNEL_BENCH_H_
#define LYCIA_LAUNCH_KERNEL_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

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
  std::string name;           // only the rows of this name or family (KernelFamilyNames); "": all
  bool every_isa = false;     // every instruction set that this machine has, not only the best; matrix products
  // Of the other kernels, in GPT-2 124M's widths.
  std::int64_t tokens = 1024;             // rows; a multiple of 4, the samples that they belong to
  std::int64_t parameters = 124'439'808;  // of the optimizer
  std::int64_t samples = 4, heads = 12;   // of attention
  std::vector<std::int64_t> sequences = {64, 256, 1024};
  CpuOptions cpu;
  double seconds = 0.2;    // of each measurement
  bool cpu_clock = false;  // processor time instead of wall time: on a shared machine the wall clock measures the others too. One thread
};

// One measured kernel. Either arithmetic limits it (gflops) or memory does (gbps); the other pair is 0.
struct KernelSpeed {
  std::string name;  // "gemm_forward"
  // Matrix products: c [m, n], depth k. Attention: m queries, n keys, k features of a head. Others: m rows of
  // n.
  std::int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kF32;
  std::string isa;         // "avx512 f32"
  double gflops = 0;       // median of the repetitions
  double peak_gflops = 0;  // of a loop on registers, same instruction set and threads, measured just before
  double gbps = 0;         // bytes that must move, in GB, over the median time
  double peak_gbps = 0;    // of a copy that moves as many bytes, same threads, measured between the repetitions
  bool limited_by_memory() const { return peak_gbps > 0; }
  double share_of_peak() const { return limited_by_memory() ? gbps / peak_gbps : peak_gflops > 0 ? gflops / peak_gflops : 0; }
};

// "gemm", "attention", "norms", ...
std::vector<std::string> KernelFamilyNames();

// The matrix multiplications of a linear layer of GPT-2 124M at 256 and 1024 tokens.
std::vector<KernelBenchOptions::Shape> Gpt2Shapes();

// Every kernel of the families in kernel_bench.cc. InvalidArgument where there are no threads or cores as asked for, or sizes do not fit.
StatusOr<std::vector<KernelSpeed>> MeasureKernels(const KernelBenchOptions& options);

std::string KernelSpeedTable(const std::vector<KernelSpeed>& rows);
// A JSON array of objects with name, m, n, k, dtype, isa, share_of_peak, and gflops and peak_gflops, or gbps and peak_gbps.
std::string KernelSpeedJson(const std::vector<KernelSpeed>& rows);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_KERNEL_BENCH_H_
