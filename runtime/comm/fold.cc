#include "runtime/comm/fold.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {
namespace {

// The running sum of a block stays in the first-level cache, so each source is read once and the result written once.
constexpr std::int64_t kBlock = 1024;

// Stored as T, added as Sum.
template <typename T, typename Sum = T>
void FoldOf(std::span<const void* const> sources, std::int64_t elements, bool accumulate, void* out) {
  Sum sum[kBlock];
  for (std::int64_t begin = 0; begin < elements; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, elements - begin);
    const T* first = static_cast<const T*>(sources[0]) + begin;
    if (sources.size() == 1) {
      std::copy(first, first + count, sum);
    } else {
      const T* second = static_cast<const T*>(sources[1]) + begin;
      for (std::int64_t i = 0; i < count; ++i) sum[i] = static_cast<Sum>(first[i]) + static_cast<Sum>(second[i]);
    }
    for (std::size_t s = 2; s < sources.size(); ++s) {
      const T* source = static_cast<const T*>(sources[s]) + begin;
      for (std::int64_t i = 0; i < count; ++i) sum[i] += source[i];
    }
    T* to = static_cast<T*>(out) + begin;
    if (accumulate) {
      for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(static_cast<Sum>(to[i]) + sum[i]);
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(sum[i]);
    }
  }
}

template <typename T>
void LargestOf(std::span<const void* const> sources, std::int64_t elements, void* out) {
  for (std::int64_t i = 0; i < elements; ++i) {
    T largest = static_cast<const T*>(sources[0])[i];
    for (const void* source : sources.subspan(1)) largest = std::max(largest, static_cast<const T*>(source)[i]);
    static_cast<T*>(out)[i] = largest;
  }
}

}  // namespace

bool CanFold(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kI64;
}

void LeftFold(DType dtype, std::span<const void* const> sources, std::int64_t elements, Fold fold, bool accumulate, void* out) {
  if (sources.size() == 1 && sources[0] == out && !accumulate) return;  // a group of one, in place
  if (fold == Fold::kLargest) {
    LYCIA_CHECK(!accumulate && CanFold(dtype)) << "the largest of " << Name(dtype) << " ";
    if (dtype == DType::kBF16) return LargestOf<BFloat16>(sources, elements, out);
    if (dtype == DType::kF16) return LargestOf<Float16>(sources, elements, out);
    if (dtype == DType::kF32) return LargestOf<float>(sources, elements, out);
    if (dtype == DType::kF64) return LargestOf<double>(sources, elements, out);
    return LargestOf<std::int64_t>(sources, elements, out);
  }
  switch (dtype) {
    case DType::kBF16: return FoldOf<BFloat16, float>(sources, elements, accumulate, out);
    case DType::kF16: return FoldOf<Float16, float>(sources, elements, accumulate, out);
    case DType::kF32: return FoldOf<float>(sources, elements, accumulate, out);
    case DType::kF64: return FoldOf<double>(sources, elements, accumulate, out);
    case DType::kI64: return FoldOf<std::uint64_t>(sources, elements, accumulate, out);  // wraps instead of overflowing
    default: LYCIA_CHECK(CanFold(dtype)) << "no sum of " << Name(dtype) << " ";
  }
}

}  // namespace lycia
