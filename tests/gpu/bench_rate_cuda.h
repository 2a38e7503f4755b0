// One line of the bandwidth table (bench_cuda.cc).
#ifndef LYCIA_TESTS_GPU_BENCH_RATE_CUDA_H_
#define LYCIA_TESTS_GPU_BENCH_RATE_CUDA_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

inline constexpr int kWarmUps = 3;
inline constexpr int kLaunches = 50;  // in one measurement; the host's part of it is a few microseconds in all
inline constexpr int kMeasurements = 5;

class RateBench {
 public:
  explicit RateBench(Device& device) : device_(device) {
    StatusOr<std::unique_ptr<Stream>> stream = device.NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
  }

  Tensor Make(DType dtype, Shape shape) {
    const TensorSpec spec{dtype, shape};
    StatusOr<Buffer> buffer = device_.Allocate(spec.bytes(), MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    buffers_.push_back(*std::move(buffer));
    return {buffers_.back().data(), dtype, shape};
  }
  void Drop() { buffers_.clear(); }
  Stream& stream() { return *stream_; }

  // The median of the measurements; one line.
  double Run(const char* name, double bytes, const std::function<void(Stream&)>& launch) {
    for (int i = 0; i < kWarmUps; ++i) launch(*stream_);
    LYCIA_CHECK_OK(stream_->Synchronize());
    std::vector<double> seconds;
    for (int m = 0; m < kMeasurements; ++m) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kLaunches; ++i) launch(*stream_);
      LYCIA_CHECK_OK(stream_->Synchronize());
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kLaunches);
    }
    std::sort(seconds.begin(), seconds.end());
    const double rate = bytes / seconds[kMeasurements / 2];
    if (copy_rate_ == 0) copy_rate_ = rate;
    std::printf("%-44s %10.1f us %8.1f GB/s %6.1f%% of peak %6.1f%% of copy   (%.1f to %.1f us)\n", name, seconds[kMeasurements / 2] * 1e6,
                rate / 1e9, 100 * rate / peak_rate_, 100 * rate / copy_rate_, seconds.front() * 1e6, seconds.back() * 1e6);
    return rate;
  }
  void set_peak_rate(double rate) { peak_rate_ = rate; }

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
  double peak_rate_ = 1, copy_rate_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_RATE_CUDA_H_
