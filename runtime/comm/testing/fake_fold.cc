// The fold kernel of a test without a GPU, played by the host's fold: what runs when is tested so, its arithmetic by tests/gpu.
#include "runtime/comm/fold.h"
#include "runtime/comm/fold_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {

cudaError_t cuda::LaunchFold(cudaStream_t stream, int multiprocessors, const FoldArgs& args) {
  LYCIA_CHECK_GE(FoldBlocks(args.elements, FoldWidth(args), multiprocessors), 1);
  return fake_cuda::EnqueueWork(stream, [args] {
    LeftFold(args.dtype, {args.sources, static_cast<std::size_t>(args.count)}, args.elements, args.fold, args.accumulate, args.out);
    return true;
  });
}

}  // namespace lycia
