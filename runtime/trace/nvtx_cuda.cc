#include "runtime/trace/nvtx_cuda.h"

#include <nvtx3/nvToolsExt.h>

namespace lycia::cuda {

void BeginNvtxRange(const char* text) { nvtxRangePushA(text); }
void EndNvtxRange() { nvtxRangePop(); }

}  // namespace lycia::cuda
