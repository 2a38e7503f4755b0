// A CUDA runtime without a GPU, for tests of the host side of the CUDA device: link fake_cuda.cc instead of the real runtime.
//
// Streams are queues whose work runs, in order, only while somebody asks (a query or a synchronisation), as late as CUDA allows; an event
// means its latest record at the time of the call; device memory starts as garbage; devices "Fake" of 1 TiB, one unless told otherwise.
// A stream that is captured keeps its work for graphs; events, queries and allocations of the capturing thread break the capture.
// Memory of cudaMalloc is known as the device's, that of cudaMallocHost as page-locked, all else as pageable. Kernels are played by host
// code: a test links its own definition of the function that launches one and enqueues it with EnqueueWork.
#ifndef LYCIA_RUNTIME_DEVICE_TESTING_FAKE_CUDA_H_
#define LYCIA_RUNTIME_DEVICE_TESTING_FAKE_CUDA_H_

#include <cuda_runtime_api.h>

#include <functional>

namespace lycia::fake_cuda {

// The next piece of work that runs on any stream fails; like CUDA, every later call then answers with this error.
void FailNextWork(cudaError_t error);
// The next call that enqueues fails at once, and only that one.
void FailNextEnqueue(cudaError_t error);
// Work of a test: called when its turn has come, again and again until it answers true. It runs under the lock of this runtime and must
// not call it.
cudaError_t EnqueueWork(cudaStream_t stream, std::function<bool()> work);
// So many devices from now on, and whether their memories can be read from each other.
void SetDevices(int count, bool peer_access);
// The compute capability of all devices from now on (9.0 unless told otherwise), and whether the build has code for it.
void SetCapability(int major, int minor, bool has_code);
// Which device's stream this is.
int DeviceOf(cudaStream_t stream);
// The streams, events and graphs that exist.
int LiveObjects();
// Graphs launched so far.
int GraphLaunches();
// Forgets failures.
void Reset();
// While `open`, the host may read and write the memory of devices, which otherwise is a fault: for suites whose operands lie there.
void OpenMemoryToHost(bool open);
// Work that the stream does in its turn, on the thread that then asks: an emulated kernel (kernels/cuda/testing).
cudaError_t EnqueueHostWork(cudaStream_t stream, std::function<void()> work);

}  // namespace lycia::fake_cuda

#endif  // LYCIA_RUNTIME_DEVICE_TESTING_FAKE_CUDA_H_
