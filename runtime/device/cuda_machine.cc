#include "runtime/device/cuda_machine.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "runtime/device/cuda_error.h"
#include "runtime/device/device.h"

namespace lycia::cuda {
namespace {

// Seconds of the fastest of some rounds of copies on a stream of the device.
StatusOr<double> SecondsOf(Stream& stream, void* to, const void* from, std::int64_t bytes) {
  constexpr int kRounds = 3, kCopies = 4;
  double best = 0;
  stream.Copy(to, from, bytes);  // the first one may set things up
  LYCIA_RETURN_IF_ERROR(stream.Synchronize());
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int copy = 0; copy < kCopies; ++copy) stream.Copy(to, from, bytes);
    LYCIA_RETURN_IF_ERROR(stream.Synchronize());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kCopies;
    best = round == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

void LetRead(int reader, int owner) {
  if (cudaSetDevice(reader) == cudaSuccess) cudaDeviceEnablePeerAccess(owner, 0);
  cudaGetLastError();  // enabled already, or copies go through the host
}

}  // namespace

StatusOr<GpuMachine> DescribeMachine() {
  GpuMachine machine;
  int count = 0;
  cudaDriverGetVersion(&machine.driver);
  cudaRuntimeGetVersion(&machine.runtime);
  if (const Status counted =
          LYCIA_CUDA_STATUS(cudaGetDeviceCount(&count), "driver of CUDA ", machine.driver / 1000, ".", machine.driver % 1000 / 10,
                            ", this build's runtime ", machine.runtime / 1000, ".", machine.runtime % 1000 / 10);
      !counted.ok()) {
    cudaGetLastError();
    return absl::UnavailableError(counted.message());
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    cudaDeviceProp properties;
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaGetDeviceProperties(&properties, ordinal), "device ", ordinal));
    GpuMachine::Gpu gpu{
        .name = properties.name, .major = properties.major, .minor = properties.minor, .multiprocessors = properties.multiProcessorCount};
    const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(ordinal);
    if (!device.ok()) gpu.why_not = std::string(device.status().message());
    std::size_t free_bytes = 0, total_bytes = 0;
    if (device.ok() && cudaSetDevice(ordinal) == cudaSuccess && cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) {
      gpu.free_bytes = static_cast<std::int64_t>(free_bytes);
      gpu.total_bytes = static_cast<std::int64_t>(total_bytes);
    }
    machine.gpus.push_back(gpu);
  }
  machine.reads.assign(machine.gpus.size(), std::vector<bool>(machine.gpus.size(), true));
  for (int reader = 0; reader < count; ++reader) {
    for (int owner = 0; owner < count; ++owner) {
      int possible = 0;
      if (reader == owner) continue;
      LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaDeviceCanAccessPeer(&possible, reader, owner), "devices ", reader, " and ", owner));
      machine.reads[static_cast<std::size_t>(reader)][static_cast<std::size_t>(owner)] = possible != 0;
    }
  }
  return machine;
}

StatusOr<std::vector<std::vector<double>>> MeasureCopies(const GpuMachine& machine, std::int64_t bytes) {
  const std::size_t gpus = machine.gpus.size(), host = gpus;
  std::vector<std::vector<double>> gigabytes(gpus + 1, std::vector<double>(gpus + 1));
  struct Memory {
    std::unique_ptr<Device> device;
    std::unique_ptr<Stream> stream;
    Buffer from, to;
  };
  std::vector<Memory> memories(gpus + 1);
  for (std::size_t g = 0; g < gpus; ++g) {
    if (!machine.gpus[g].why_not.empty() || machine.gpus[g].free_bytes < 3 * bytes) continue;
    Memory& memory = memories[g];
    LYCIA_ASSIGN_OR_RETURN(memory.device, NewCudaDevice(static_cast<int>(g)));
    LYCIA_ASSIGN_OR_RETURN(memory.stream, memory.device->NewStream());
    LYCIA_ASSIGN_OR_RETURN(memory.from, memory.device->Allocate(bytes, MemoryKind::kDevice));
    LYCIA_ASSIGN_OR_RETURN(memory.to, memory.device->Allocate(bytes, MemoryKind::kDevice));
    if (memories[host].from.data() != nullptr) continue;
    LYCIA_ASSIGN_OR_RETURN(memories[host].from, memory.device->Allocate(bytes, MemoryKind::kPinned));
    LYCIA_ASSIGN_OR_RETURN(memories[host].to, memory.device->Allocate(bytes, MemoryKind::kPinned));
  }
  for (std::size_t from = 0; from <= gpus; ++from) {
    for (std::size_t to = 0; to <= gpus; ++to) {
      Memory& runs = memories[from == host ? to : from];
      if (runs.stream == nullptr || memories[to].to.data() == nullptr || memories[from].from.data() == nullptr) continue;
      if (from != to && from != host && to != host) LetRead(static_cast<int>(from), static_cast<int>(to));
      LYCIA_ASSIGN_OR_RETURN(const double seconds, SecondsOf(*runs.stream, memories[to].to.data(), memories[from].from.data(), bytes));
      gigabytes[from][to] = static_cast<double>(bytes) / std::max(seconds, 1e-9) / 1e9;
    }
  }
  return gigabytes;
}

}  // namespace lycia::cuda
