// Times Gemm on CUDA: 2 m n k operations, random data (zeros would draw less power and run faster). Beside cuBLASLt through PyTorch a
// product is to stay within 2 %; docs/measurements.md has that figure of the same card.
#include "tests/gpu/bench_gemm_cuda.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr int kWarmUps = 3, kLaunches = 20, kMeasurements = 5;

struct Case {
  const char* name;
  std::int64_t m, n, k;
  DType in = DType::kBF16, out = DType::kBF16;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false, gelu = false, slope = false, residual = false,
       tf32 = false;
};
// The square that rivals are measured at, then what one micro-batch of 8 x 1,024 tokens of GPT-2 XL (1,600 features) and one of 4 x 2,048
// of a 7B model asks for.
constexpr Case kCases[] = {
    {"square", 8192, 8192, 8192},
    {"square, f32 out", 8192, 8192, 8192, DType::kBF16, DType::kF32},
    {"square, f32", 4096, 4096, 4096, DType::kF32, DType::kF32},
    {"square, tf32", 8192, 8192, 8192, DType::kF32, DType::kF32, false, false, false, false, false, false, false, true},
    {"XL up, bias, GELU saved", 8192, 6400, 1600, DType::kBF16, DType::kBF16, false, false, false, true, true},
    {"XL down, bias, residual", 8192, 1600, 6400, DType::kBF16, DType::kBF16, false, false, false, true, false, false, true},
    {"XL down's input gradient, GELU's slope", 8192, 6400, 1600, DType::kBF16, DType::kBF16, false, true, false, false, false, true},
    {"XL up's weight gradient +=", 1600, 6400, 8192, DType::kBF16, DType::kF32, true, false, true},
    {"7B attention in", 8192, 12288, 4096},
    {"7B weight gradient +=", 4096, 12288, 8192, DType::kBF16, DType::kF32, true, false, true},
};

class Bench {
 public:
  explicit Bench(Device& device) : device_(device) {
    StatusOr<std::unique_ptr<Stream>> stream = device.NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
  }

  void Run(const Case& z) {
    const auto make = [&](DType dtype, std::int64_t rows, std::int64_t cols) {
      const TensorSpec spec{dtype, {rows, cols}};
      StatusOr<Buffer> buffer = device_.Allocate(spec.bytes(), MemoryKind::kDevice);
      LYCIA_CHECK_OK(buffer.status());
      buffers_.push_back(*std::move(buffer));
      const Tensor tensor{buffers_.back().data(), dtype, spec.shape};
      FillNormal(*stream_, {.out = tensor, .random = RandomStream(buffers_.size(), "gemm", 0)});
      return AsMatrix(tensor);
    };
    GemmArgs args{.a = z.transpose_a ? make(z.in, z.k, z.m) : make(z.in, z.m, z.k),
                  .transpose_a = z.transpose_a,
                  .b = z.transpose_b ? make(z.in, z.n, z.k) : make(z.in, z.k, z.n),
                  .transpose_b = z.transpose_b,
                  .c = make(z.out, z.m, z.n),
                  .accumulate = z.accumulate};
    if (z.bias) args.bias = ConstTensor(make(z.out, 1, z.n).data, z.out, {z.n});
    if (z.residual) args.residual = make(z.out, z.m, z.n);
    if (z.gelu) args.gelu = true, args.pre_activation = make(z.out, z.m, z.n);
    if (z.slope) args.gelu_input = make(z.out, z.m, z.n);
    args.tf32 = z.tf32;
    for (int i = 0; i < kWarmUps; ++i) cuda::Gemm(*stream_, args);
    if (const Status status = stream_->Synchronize(); !status.ok()) {
      std::printf("gemm %-40s not timed: %s\n", z.name, std::string(status.message()).c_str());
      return;
    }
    std::vector<double> seconds;
    for (int m = 0; m < kMeasurements; ++m) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kLaunches; ++i) cuda::Gemm(*stream_, args);
      LYCIA_CHECK_OK(stream_->Synchronize());
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kLaunches);
    }
    std::sort(seconds.begin(), seconds.end());
    const double work = 2.0 * static_cast<double>(z.m) * static_cast<double>(z.n) * static_cast<double>(z.k);
    std::printf("gemm %-40s %5lld x %5lld x %5lld %10.1f us %8.1f TFLOP/s   (%.1f to %.1f us)\n", z.name, static_cast<long long>(z.m),
                static_cast<long long>(z.n), static_cast<long long>(z.k), seconds[kMeasurements / 2] * 1e6,
                work / seconds[kMeasurements / 2] / 1e12, seconds.front() * 1e6, seconds.back() * 1e6);
    buffers_.clear();
  }

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
};

}  // namespace

void BenchCudaGemm(Device& device) {
  for (const Case& z : kCases) Bench(device).Run(z);
}

}  // namespace lycia
