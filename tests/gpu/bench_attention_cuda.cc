// Times the attention of CUDA: TFLOP/s of the multiply-adds that AttentionForwardFlops counts (half the square under a causal mask), random
// data.
#include "tests/gpu/bench_attention_cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/attention/attention.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "runtime/device/cuda_stream.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

constexpr int kWarmUps = 3;
constexpr int kLaunches = 20;
constexpr double kForwardProducts = 2, kBackwardProducts = 5;  // of T x S x D: with the scores once more

struct Size {
  std::int64_t B, H, G, T, D;
};
// What the rival's table has too (docs/measurements.md), then heads shared by four, and the sizes of GPT-2.
constexpr Size kSizes[] = {{2, 16, 16, 8192, 128}, {1, 16, 16, 16384, 128}, {4, 16, 16, 4096, 128},
                           {2, 32, 32, 8192, 64},  {4, 32, 8, 4096, 128},   {32, 12, 12, 1024, 64}};

class Bench {
 public:
  explicit Bench(Device& device) : device_(device) {
    StatusOr<std::unique_ptr<Stream>> stream = device.NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
    for (cudaEvent_t* event : {&begin_, &end_}) LYCIA_CHECK_OK(LYCIA_CUDA_STATUS(cudaEventCreate(event)));
    // Normal numbers, rounded to bf16: zeros would draw less power and run faster.
    const RandomStream random(1, "bench", 0);
    normal_.resize(1 << 20);
    for (std::size_t i = 0; i < normal_.size(); ++i) {
      const auto x = static_cast<float>(random.Normal(i));
      std::uint32_t bits;
      std::memcpy(&bits, &x, sizeof(bits));
      normal_[i] = static_cast<std::uint16_t>(bits >> 16);
    }
  }
  ~Bench() {
    for (cudaEvent_t event : {begin_, end_}) cudaEventDestroy(event);
  }

  Tensor Make(DType dtype, Shape shape) {
    const TensorSpec spec{dtype, shape};
    StatusOr<Buffer> buffer = device_.Allocate(spec.bytes(), MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    buffers_.push_back(*std::move(buffer));
    return {buffers_.back().data(), dtype, shape};
  }
  // The numbers repeat, from another place in each tensor.
  Tensor Random(Shape shape) {
    const Tensor tensor = Make(DType::kBF16, shape);
    const auto total = static_cast<std::size_t>(tensor.elements());
    std::size_t at = 0, from = buffers_.size() * 12345;
    while (at < total) {
      const std::size_t n = std::min(total - at, normal_.size() - from % normal_.size());
      stream_->Copy(static_cast<std::uint16_t*>(tensor.data) + at, normal_.data() + from % normal_.size(),
                    static_cast<std::int64_t>(2 * n));
      at += n, from += n;
    }
    LYCIA_CHECK_OK(stream_->Synchronize());
    return tensor;
  }
  void Drop() { buffers_.clear(); }

  void Run(const char* what, const Size& z, bool causal, double flops, const std::function<void(Stream&)>& launch) {
    for (int i = 0; i < kWarmUps; ++i) launch(*stream_);
    LYCIA_CHECK_OK(stream_->Synchronize());
    std::vector<float> times;
    for (int i = 0; i < kLaunches; ++i) {
      const cudaStream_t stream = cuda::TargetOf(*stream_).stream;
      cudaEventRecord(begin_, stream);
      launch(*stream_);
      cudaEventRecord(end_, stream);
      LYCIA_CHECK_OK(stream_->Synchronize());
      times.push_back(0);
      cudaEventElapsedTime(&times.back(), begin_, end_);
    }
    std::sort(times.begin(), times.end());
    const double median = times[kLaunches / 2];
    std::printf("attention %-8s B%-2lld H%-2lld G%-2lld T%-5lld d%-3lld %-6s %8.3f ms %6.1f TFLOP/s   (%.3f to %.3f ms)\n", what,
                static_cast<long long>(z.B), static_cast<long long>(z.H), static_cast<long long>(z.G), static_cast<long long>(z.T),
                static_cast<long long>(z.D), causal ? "causal" : "full", median, flops / median / 1e9, times.front(), times.back());
    std::fflush(stdout);
  }

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::vector<std::uint16_t> normal_;
  std::vector<Buffer> buffers_;
};

void BenchSize(Bench& bench, const Size& z, bool causal) {
  const AttentionProblem p{.dtype = DType::kBF16,
                           .samples = z.B,
                           .queries = z.T,
                           .keys = z.T,
                           .heads = z.H,
                           .kv_heads = z.G,
                           .head_dim = z.D,
                           .scale = 1 / std::sqrt(static_cast<double>(z.D)),
                           .mask = causal ? MaskKind::kCausal : MaskKind::kFull};
  const Shape q_shape{z.B, z.T, z.H * z.D}, kv_shape{z.B, z.T, z.G * z.D};
  const Tensor q = bench.Random(q_shape), k = bench.Random(kv_shape), v = bench.Random(kv_shape), out = bench.Make(DType::kBF16, q_shape);
  const Tensor log_sum_exp = bench.Make(DType::kF32, {z.B, z.H, z.T}), scratch = bench.Make(DType::kU8, {AttentionForwardScratchBytes(p)});
  bench.Run("forward", z, causal, AttentionForwardFlops(p), [&](Stream& stream) {
    AttentionForward(stream, {.problem = p,
                              .q = AsHeads(q, z.H),
                              .k = AsHeads(k, z.G),
                              .v = AsHeads(v, z.G),
                              .out = AsHeads(out, z.H),
                              .log_sum_exp = log_sum_exp,
                              .scratch = scratch});
  });
  const Tensor dout = bench.Random(q_shape), dq = bench.Make(DType::kBF16, q_shape), dk = bench.Make(DType::kBF16, kv_shape),
               dv = bench.Make(DType::kBF16, kv_shape), backward = bench.Make(DType::kU8, {AttentionBackwardScratchBytes(p)});
  bench.Run("backward", z, causal, kBackwardProducts / kForwardProducts * AttentionForwardFlops(p), [&](Stream& stream) {
    AttentionBackward(stream, {.problem = p,
                               .q = AsHeads(q, z.H),
                               .k = AsHeads(k, z.G),
                               .v = AsHeads(v, z.G),
                               .out = AsHeads(out, z.H),
                               .dout = AsHeads(dout, z.H),
                               .log_sum_exp = log_sum_exp,
                               .dq = AsHeads(dq, z.H),
                               .dk = AsHeads(dk, z.G),
                               .dv = AsHeads(dv, z.G),
                               .scratch = backward});
  });
  bench.Drop();
}

}  // namespace

void BenchCudaAttention(Device& device) {
  Bench bench(device);
  for (const Size& size : kSizes) {
    for (const bool causal : {false, true}) BenchSize(bench, size, causal);
  }
}

}  // namespace lycia
