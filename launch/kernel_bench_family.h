// What the families of `lycia bench kernels` share: operands, and the two ways to measure.
#ifndef LYCIA_LAUNCH_KERNEL_BENCH_FAMILY_H_
#define LYCIA_LAUNCH_KERNEL_BENCH_FAMILY_H_

#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "launch/kernel_bench.h"
#include "runtime/core/tensor.h"

namespace lycia::internal {

class KernelBench {
 public:
  KernelBench(const KernelBenchOptions& options, Device& device, Stream& stream) : options_(options), device_(device), stream_(stream) {}

  const KernelBenchOptions& options() const { return options_; }
  Stream& stream() { return stream_; }
  std::vector<KernelSpeed>& rows() { return rows_; }
  // The first allocation that failed; nothing is measured after it.
  const Status& status() const { return status_; }

  // The family of the rows that follow.
  void Begin(std::string_view family) { family_ = family; }
  bool Wants(std::string_view name) const { return options_.name.empty() || options_.name == family_ || options_.name == name; }
  // Of a family: whether any row of it may be wanted.
  bool WantsAny(const std::vector<std::string_view>& names) const;

  // Normal numbers times std; i32: 0 .. 49999, again and again. None is subnormal. Empty after a failure.
  Tensor Make(DType dtype, const Shape& shape, double std = 1);
  void Release() { buffers_.clear(); }

  // What a row is, beside its speed.
  struct Row {
    std::string_view name;
    DType dtype = DType::kF32;
    std::int64_t m = 0, n = 0, k = 0;
  };
  // A kernel that must move `bytes`, beside a copy that moves as many.
  void MeasureBytes(const Row& row, double bytes, absl::FunctionRef<void()> run);
  // A kernel of `flops`, beside `peak` GFLOP/s of instruction set `isa`.
  void MeasureFlops(const Row& row, double flops, std::string_view isa, double peak, absl::FunctionRef<void()> run);
  // Median seconds of one call; calls are timed in groups that last long enough to be read off a clock, for options().seconds in all, at
  // least thrice.
  double MedianSeconds(absl::FunctionRef<void()> call) const;
  double Now() const;  // seconds of the clock that was asked for

 private:
  void Copy(std::int64_t bytes);

  const KernelBenchOptions& options_;
  Device& device_;
  Stream& stream_;
  std::vector<KernelSpeed> rows_;
  std::vector<Buffer> buffers_;
  Buffer copy_;
  std::string family_;
  Status status_;
};

// One a file; each adds its rows.
void MeasureGemm(KernelBench& bench);       // kernel_bench_gemm.cc
void MeasureAttention(KernelBench& bench);  // kernel_bench_attention.cc
void MeasureNorms(KernelBench& bench);      // kernel_bench_memory.cc, as all below
void MeasureActivations(KernelBench& bench);
void MeasureEmbedding(KernelBench& bench);  // and rotary positions
void MeasureLoss(KernelBench& bench);
void MeasureOptimizer(KernelBench& bench);

}  // namespace lycia::internal

#endif  // LYCIA_LAUNCH_KERNEL_BENCH_FAMILY_H_
