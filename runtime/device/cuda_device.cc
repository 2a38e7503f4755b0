#include "runtime/device/cuda_device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_error.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

int CapabilityOf(const cudaDeviceProp& properties) { return 10 * properties.major + properties.minor; }

class CudaStream final : public Stream {
 public:
  CudaStream(int ordinal, int capability, int multiprocessors, const CudaOptions& options)
      : ordinal_(ordinal), capability_(capability), multiprocessors_(multiprocessors), options_(options) {}
  ~CudaStream() override {
    // CUDA releases the stream and its events once their work is done.
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
    if (workspace_ == nullptr && faults_ == nullptr) return;
    cudaSetDevice(ordinal_);
    cudaFree(workspace_);  // waits for the device, and so for who still writes to either
    cudaFreeHost(faults_);
  }

  Status Create() {
    LYCIA_RETURN_IF_ERROR(MakeCurrent());
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "device ", ordinal_));
    constexpr std::size_t kBytes = kBlasWorkspaceBytes + kKernelWorkspaceBytes;
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaMalloc(&workspace_, kBytes), kBytes, " bytes of scratch of a stream"));
    void* faults = nullptr;
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaMallocHost(&faults, kNumFaults * sizeof(FaultWord)), "device ", ordinal_));
    faults_ = static_cast<FaultWord*>(faults);
    std::fill_n(faults_, kNumFaults, FaultWord{});
    return events_.Create();
  }

  DeviceKind kind() const override { return DeviceKind::kCuda; }

  void Copy(void* to, const void* from, std::int64_t bytes) override {
    if (!Ready() || bytes <= 0) return;
    Fail(LYCIA_CUDA_STATUS(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, stream_), bytes, " bytes"));
  }

  void Zero(void* to, std::int64_t bytes) override {
    if (!Ready() || bytes <= 0) return;
    Fail(LYCIA_CUDA_STATUS(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), stream_), bytes, " bytes"));
  }

  void Wait(const Event& event) override {
    if (!Ready() || event.source == nullptr) return;
    if (auto* source = dynamic_cast<StreamEventSource*>(event.source)) {
      if (source != &events_) Fail(source->EnqueueWait(stream_, event.ticket, guard()));  // its own earlier work comes first anyway
    } else {
      Fail(event.Wait(guard()));
    }
  }

  Event Record() override {
    if (Ready()) {
      StatusOr<std::uint64_t> ticket = events_.Record(stream_, guard());
      if (ticket.ok()) return {&events_, *ticket};
      Fail(ticket.status());
    }
    return {&events_, events_.Fail(status())};
  }

  void Elapse(std::int64_t ns) override {
    if (!Ready() || ns <= 0) return;
    Fail(LYCIA_CUDA_STATUS(LaunchElapse(stream_, ns), ns, " ns"));
  }

  // Waits for the device even when the stream has failed, so that memory may be freed after it.
  Status Synchronize() override {
    Fail(MakeCurrent());
    Fail(PollUntilReady([this] { return ClearNotReady(cudaStreamQuery(stream_)); }, "cudaStreamQuery", guard()));
    for (int i = 0; ok() && i < kNumFaults; ++i) Fail(FaultStatus(static_cast<Fault>(i), faults_[i]));
    return status();
  }

  Status MakeCurrent() { return LYCIA_CUDA_STATUS(cudaSetDevice(ordinal_), "device ", ordinal_); }
  StreamTarget target() const {
    return {.stream = stream_,
            .capability = capability_,
            .multiprocessors = multiprocessors_,
            .tf32 = options_.tf32,
            .blas_workspace = workspace_,
            .kernel_workspace = static_cast<char*>(workspace_) + kBlasWorkspaceBytes,
            .faults = faults_};
  }
  std::shared_ptr<void>& gemm_state() { return gemm_state_; }
  int ordinal() const { return ordinal_; }

 private:
  bool Ready() {
    if (ok()) Fail(MakeCurrent());  // a thread-local write when the device is current already
    return ok();
  }

  const int ordinal_;
  const int capability_;  // as StreamTarget's
  const int multiprocessors_;
  const CudaOptions options_;
  cudaStream_t stream_ = nullptr;
  void* workspace_ = nullptr;
  FaultWord* faults_ = nullptr;
  std::shared_ptr<void> gemm_state_;
  CudaEventSource events_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, const cudaDeviceProp& properties, const CudaOptions& options)
      : ordinal_(ordinal),
        capability_(CapabilityOf(properties)),
        multiprocessors_(properties.multiProcessorCount),
        model_(properties.name),
        options_(options),
        host_(NewCpuDevice()) {}
  ~CudaDevice() override {
    if (zero_stream_ != nullptr) cudaStreamDestroy(zero_stream_);
  }

  Status Create() {
    LYCIA_RETURN_IF_ERROR(MakeCurrent());
    return LYCIA_CUDA_STATUS(cudaStreamCreateWithFlags(&zero_stream_, cudaStreamNonBlocking), "device ", ordinal_);
  }

  DeviceKind kind() const override { return DeviceKind::kCuda; }
  std::string name() const override { return absl::StrCat("cuda:", ordinal_, " ", model_); }

  StatusOr<Buffer> Allocate(std::int64_t bytes, MemoryKind kind) override {
    LYCIA_CHECK_GE(bytes, 0);
    if (kind == MemoryKind::kHost) return host_->Allocate(bytes, kind);
    if (bytes == 0) return Buffer();
    LYCIA_RETURN_IF_ERROR(MakeCurrent());
    return kind == MemoryKind::kPinned ? AllocatePinned(bytes) : AllocateDevice(bytes);
  }

  StatusOr<std::unique_ptr<Stream>> NewStream() override {
    auto stream = std::make_unique<CudaStream>(ordinal_, capability_, multiprocessors_, options_);
    LYCIA_RETURN_IF_ERROR(stream->Create());
    return std::unique_ptr<Stream>(std::move(stream));
  }

 private:
  StatusOr<Buffer> AllocateDevice(std::int64_t bytes) {
    void* data = nullptr;
    const std::size_t size = static_cast<std::size_t>(bytes);
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaMalloc(&data, size), bytes, " bytes asked for, ", FreeBytes(),
                                            " bytes free; use a smaller batch, recompute, or more ranks"));
    const int ordinal = ordinal_;
    Buffer buffer(data, bytes, [ordinal](void* p) {
      cudaSetDevice(ordinal);
      cudaFree(p);  // waits for the device: nothing that runs can still use it
    });
    // A stream of its own: neither waits for running work nor, like the default stream, runs past the streams that use the memory.
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaMemsetAsync(data, 0, size, zero_stream_), bytes, " bytes"));
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaStreamSynchronize(zero_stream_), "zeroing ", bytes, " bytes"));
    return buffer;
  }

  StatusOr<Buffer> AllocatePinned(std::int64_t bytes) {
    void* data = nullptr;
    const std::size_t size = static_cast<std::size_t>(bytes);
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaMallocHost(&data, size), bytes, " bytes of page-locked memory; `ulimit -l` may bound it"));
    std::memset(data, 0, size);
    return Buffer(data, bytes, [](void* p) { cudaFreeHost(p); });
  }

  static std::size_t FreeBytes() {
    std::size_t free_bytes = 0, total_bytes = 0;
    cudaGetLastError();  // the failed allocation is reported; it must not fail the next launch too
    return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess ? free_bytes : 0;
  }

  Status MakeCurrent() { return LYCIA_CUDA_STATUS(cudaSetDevice(ordinal_), "device ", ordinal_); }

  const int ordinal_;
  const int capability_;
  const int multiprocessors_;
  const std::string model_;
  const CudaOptions options_;
  const std::unique_ptr<Device> host_;
  cudaStream_t zero_stream_ = nullptr;
};

}  // namespace

StreamTarget TargetOf(Stream& stream) {
  LYCIA_CHECK(stream.kind() == DeviceKind::kCuda);
  auto& cuda = static_cast<CudaStream&>(stream);
  stream.Fail(cuda.MakeCurrent());
  return cuda.target();
}

std::shared_ptr<void>& GemmStateOf(Stream& stream) {
  LYCIA_CHECK(stream.kind() == DeviceKind::kCuda);
  return static_cast<CudaStream&>(stream).gemm_state();
}

StatusOr<std::unique_ptr<Device>> NewDevice(int ordinal, const CudaOptions& options) {
  int count = 0;
  if (Status status = LYCIA_CUDA_STATUS(cudaGetDeviceCount(&count), "needs an NVIDIA driver of CUDA ", CUDART_VERSION / 1000, " or newer");
      !status.ok()) {
    return absl::UnavailableError(absl::StrCat("no GPU: ", status.message()));
  }
  if (ordinal < 0 || ordinal >= count) {
    return absl::UnavailableError(
        absl::StrCat("no GPU: device ", ordinal, " was asked for and the machine has ", count, " (numbered from 0)"));
  }
  cudaDeviceProp properties;
  LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaGetDeviceProperties(&properties, ordinal), "device ", ordinal));
  const std::string has =
      absl::StrCat("no GPU: device ", ordinal, ", ", properties.name, ", has compute capability ", properties.major, ".", properties.minor);
  if (CapabilityOf(properties) < kOldestCapability) {
    return absl::UnavailableError(
        absl::StrCat(has, "; the kernels need ", kOldestCapability / 10, ".", kOldestCapability % 10, " or newer"));
  }
  LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaSetDevice(ordinal), "device ", ordinal));
  if (FindCode() != cudaSuccess) {
    cudaGetLastError();
    return absl::UnavailableError(absl::StrCat(has, "; this build has code for ", kHopperCapability / 10, ".", kHopperCapability % 10,
                                               " alone: build with --define=gpus=all, as launch/package does"));
  }
  auto device = std::make_unique<CudaDevice>(ordinal, properties, options);
  LYCIA_RETURN_IF_ERROR(device->Create());
  return std::unique_ptr<Device>(std::move(device));
}

StatusOr<Buffer> AllocateBeside(Stream& stream, std::int64_t bytes) {
  LYCIA_CHECK(stream.kind() == DeviceKind::kCuda);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, NewDevice(static_cast<CudaStream&>(stream).ordinal()));
  return device->Allocate(bytes, MemoryKind::kDevice);
}

}  // namespace lycia::cuda
