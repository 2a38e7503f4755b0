#include "launch/peak.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/gemm/gemm.h"

namespace lycia {

double MeasureGemmPeak(Stream& stream, DType dtype) {
  if (stream.kind() != DeviceKind::kCpu) return NAN;
  constexpr std::int64_t kSize = 384;
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  if (dtype != DType::kBF16) dtype = DType::kF32;
  std::vector<float> a(kSize * kSize), b(kSize * kSize), c(kSize * kSize);  // bf16 needs half of it
  auto matrix = [&](std::vector<float>& values) { return Matrix{values.data(), dtype, kSize, kSize, kSize}; };
  double best = 0;
  const auto begin = std::chrono::steady_clock::now();
  auto since = [](auto start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  while (since(begin) < 0.05) {
    const auto start = std::chrono::steady_clock::now();
    Gemm(stream, {.a = matrix(a), .b = matrix(b), .c = matrix(c)});
    best = std::max(best, kFlops / since(start));
  }
  return best;
}

double MeasureCopyRate(Stream& stream) {
  if (stream.kind() != DeviceKind::kCpu) return NAN;
  constexpr std::size_t kBytes = std::size_t{32} << 20;
  std::vector<char> from(kBytes, 1), to(kBytes, 2);
  double best = 0;
  const auto begin = std::chrono::steady_clock::now();
  auto since = [](auto start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const ThreadPool& pool = *stream.pool();
  while (since(begin) < 0.05) {
    const auto start = std::chrono::steady_clock::now();
    stream.pool()->Run([&](int thread) {
      const std::size_t threads = static_cast<std::size_t>(pool.threads()), at = static_cast<std::size_t>(thread);
      const std::size_t first = kBytes / threads * at, end = thread + 1 == pool.threads() ? kBytes : kBytes / threads * (at + 1);
      std::memcpy(to.data() + first, from.data() + first, end - first);
    });
    best = std::max(best, 2.0 * static_cast<double>(kBytes) / since(start));
  }
  return best;
}

}  // namespace lycia
