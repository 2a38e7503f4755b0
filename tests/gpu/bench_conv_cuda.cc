// Times the convolutions of ResNet-50 at 128 images in bf16, random data. To be compared with cuDNN, NHWC, on the same card.
#include "tests/gpu/bench_conv_cuda.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/elementwise/elementwise.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr int kWarmUps = 2, kLaunches = 10, kMeasurements = 5;

struct Layer {
  std::int64_t side, C, K, filter, stride;
};
// The stem, and of each stage a 1x1 that narrows, the 3x3, its form of stride two, a 1x1 that widens.
constexpr Layer kLayers[] = {
    {224, 3, 64, 7, 2},   {56, 256, 64, 1, 1},  {56, 64, 64, 3, 1},   {56, 64, 256, 1, 1},   {56, 128, 128, 3, 2}, {28, 512, 128, 1, 1},
    {28, 128, 128, 3, 1}, {28, 128, 512, 1, 1}, {28, 256, 256, 3, 2}, {14, 1024, 256, 1, 1}, {14, 256, 256, 3, 1}, {14, 256, 1024, 1, 1},
    {14, 512, 512, 3, 2}, {7, 2048, 512, 1, 1}, {7, 512, 512, 3, 1},  {7, 512, 2048, 1, 1},
};

void Time(Stream& stream, const char* what, const ConvShape& shape, const std::function<void()>& launch) {
  for (int i = 0; i < kWarmUps; ++i) launch();
  if (const Status status = stream.Synchronize(); !status.ok()) {
    std::printf("conv %-12s %s not timed: %s\n", what, shape.ToString().c_str(), std::string(status.message()).c_str());
    return;
  }
  std::vector<double> seconds;
  for (int m = 0; m < kMeasurements; ++m) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kLaunches; ++i) launch();
    LYCIA_CHECK_OK(stream.Synchronize());
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kLaunches);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[kMeasurements / 2];
  std::printf("conv %-12s %-70s %10.1f us %7.1f TFLOP/s   (%.1f to %.1f us)\n", what, shape.ToString().c_str(), median * 1e6,
              shape.flops() / median * 1e-12, seconds.front() * 1e6, seconds.back() * 1e6);
}

}  // namespace

void BenchCudaConv(Device& device) {
  StatusOr<std::unique_ptr<Stream>> stream = device.NewStream();
  LYCIA_CHECK_OK(stream.status());
  Stream& s = **stream;
  for (const Layer& z : kLayers) {
    const ConvAxis axis{.in = z.side, .filter = z.filter, .stride = z.stride, .pad_before = z.filter / 2, .pad_after = z.filter / 2};
    const ConvShape shape{.N = 128, .C = z.C, .K = z.K, .height = axis, .width = axis};
    std::vector<Buffer> buffers;
    const auto make = [&](DType dtype, const Shape& sizes) {
      const TensorSpec spec{dtype, sizes};
      StatusOr<Buffer> buffer = device.Allocate(spec.bytes(), MemoryKind::kDevice);
      LYCIA_CHECK_OK(buffer.status());
      buffers.push_back(*std::move(buffer));
      const Tensor tensor{buffers.back().data(), dtype, sizes};
      FillNormal(s, {.out = tensor, .random = RandomStream(buffers.size(), "conv", 0)});
      return tensor;
    };
    const Shape images{shape.N, shape.H(), shape.W(), shape.C}, results{shape.N, shape.P(), shape.Q(), shape.K},
        filter{shape.K, shape.R(), shape.S(), shape.C};
    const Tensor in = make(DType::kBF16, images), out = make(DType::kBF16, results), weight = make(DType::kBF16, filter);
    const Tensor dweight = make(DType::kF32, filter), scale = make(DType::kF32, {shape.K});
    Time(s, "forward", shape,
         [&] { ConvForward(s, {.shape = shape, .in = in, .weight = weight, .out = out, .scale = scale, .relu = true}); });
    Time(s, "din", shape, [&] { ConvBackwardInput(s, {.shape = shape, .dout = out, .weight = weight, .din = in}); });
    Time(s, "dweight", shape, [&] { ConvBackwardWeight(s, {.shape = shape, .in = in, .dout = out, .dweight = dweight}); });
  }
}

}  // namespace lycia
