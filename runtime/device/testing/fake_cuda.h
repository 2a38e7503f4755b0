// A CUDA runtime without a GPU, for tests of the host side of the CUDA device: link fake_cuda.cc instead of the real runtime.
//
// Streams are queues whose work runs, in order, only while somebody asks (a query or a synchronisation), as late as CUDA allows; an event
// means its latest record at the time of the call; device memory starts as garbage; one device "Fake" of 1 TiB.
#ifndef LYCIA_RUNTIME_DEVICE_TESTING_FAKE_CUDA_H_
#define LYCIA_RUNTIME_DEVICE_TESTING_FAKE_CUDA_H_

#include <cuda_runtime_api.h>

namespace lycia::fake_cuda {

// The next piece of work that runs on any stream fails; like CUDA, every later call then answers with this error.
void FailNextWork(cudaError_t error);
// The next call that enqueues fails at once, and only that one.
void FailNextEnqueue(cudaError_t error);
// The streams and events that exist.
int LiveObjects();
// Forgets failures.
void Reset();

}  // namespace lycia::fake_cuda

#endif  // LYCIA_RUNTIME_DEVICE_TESTING_FAKE_CUDA_H_
