// Ranges of NVTX: what the host was at, on the timeline of Nsight Systems beside what the GPU did. Without a tool attached they cost a few
// nanoseconds; they belong to the calling thread, and nest. For a build with CUDA.
#ifndef LYCIA_RUNTIME_TRACE_NVTX_CUDA_H_
#define LYCIA_RUNTIME_TRACE_NVTX_CUDA_H_

namespace lycia::cuda {

// The text is read before the call returns.
void BeginNvtxRange(const char* text);
void EndNvtxRange();

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_TRACE_NVTX_CUDA_H_
