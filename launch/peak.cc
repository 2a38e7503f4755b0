#include "launch/peak.h"

#include <algorithm>
#include <chrono>
#include <cmath>
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

}  // namespace lycia
