#include <algorithm>

#include "runtime/comm/fold_cuda.h"

namespace lycia::cuda {

int FoldWidth(const FoldArgs& args) {
  constexpr std::uintptr_t kWide = 16;
  std::uintptr_t addresses = reinterpret_cast<std::uintptr_t>(args.out);
  for (int s = 0; s < args.count; ++s) addresses |= reinterpret_cast<std::uintptr_t>(args.sources[s]);
  return addresses % kWide == 0 ? static_cast<int>(kWide / static_cast<std::uintptr_t>(SizeOf(args.dtype))) : 1;
}

int FoldBlocks(std::int64_t elements, int width, int multiprocessors) {
  constexpr std::int64_t kBlocksPerMultiprocessor = 8;  // 2,048 threads, all a multiprocessor holds
  const std::int64_t per_block = std::int64_t{kFoldThreads} * width;
  return static_cast<int>(std::clamp((elements + per_block - 1) / per_block, std::int64_t{1}, kBlocksPerMultiprocessor * multiprocessors));
}

}  // namespace lycia::cuda
