#include "runtime/comm/cuda_mover.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "runtime/comm/fold_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_error.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// Where memory lies: on a device, in page-locked memory of the host (no device of its own), or elsewhere on the host.
struct Place {
  enum Kind { kDevice, kPinned, kPageable } kind = kPageable;
  int ordinal = -1;  // of kDevice
};

class CudaMover final : public Mover {
 public:
  explicit CudaMover(std::int64_t piece_bytes) : piece_bytes_(piece_bytes) {}
  ~CudaMover() override { Settle(); }

  Status Open(const std::vector<int>& ordinals) {
    for (int ordinal : ordinals) {
      LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, NewCudaDevice(ordinal));
      LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream, device->NewStream());
      lanes_[ordinal] = {std::move(device), std::move(stream)};
    }
    last_ = &lanes_.begin()->second;
    for (int from : ordinals) {
      for (int to : ordinals) {
        if (from != to) LYCIA_RETURN_IF_ERROR(LetRead(from, to));
      }
    }
    return OkStatus();
  }

  StatusOr<Buffer> Allocate(std::int64_t bytes) override { return last_->device->Allocate(bytes, MemoryKind::kPinned); }

  void Copy(void* to, const void* from, std::int64_t bytes) override {
    if (bytes == 0 || !status_.ok()) return;
    const Place target = PlaceOf(to), source = PlaceOf(from);
    if (target.kind == Place::kPageable && source.kind == Place::kPageable) {
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
      return;
    }
    LaneAt(target.kind == Place::kDevice ? target : source).stream->Copy(to, from, bytes);
    if (target.kind == Place::kPageable || source.kind == Place::kPageable) Settle();
  }

  void LeftFold(DType dtype, std::span<const void* const> sources, std::int64_t elements, Fold fold, bool accumulate, void* out) override {
    if (elements == 0 || !status_.ok()) return;
    Place place = PlaceOf(out);
    bool pageable = place.kind == Place::kPageable, device = place.kind == Place::kDevice;
    for (const void* source : sources) {
      const Place at = PlaceOf(source);
      pageable |= at.kind == Place::kPageable;
      device |= at.kind == Place::kDevice;
      if (place.kind != Place::kDevice && at.kind == Place::kDevice) place = at;
    }
    if (pageable && device) {
      Fail(absl::InternalError(StrCat("a sum of ", elements, " ", Name(dtype),
                                      " has operands in device memory and in pageable host memory: the ranks of a group must agree")));
    } else if (pageable) {
      Settle();
      lycia::LeftFold(dtype, sources, elements, fold, accumulate, out);
    } else {
      Launch(LaneAt(place), dtype, sources, elements, fold, accumulate, out);
    }
  }

  Event Record() override { return last_->stream->Record(); }

  void Settle() override {
    for (auto& [ordinal, lane] : lanes_) Fail(lane.stream->Synchronize());
  }

  Status Check() override {
    for (auto& [ordinal, lane] : lanes_) {
      Fail(lane.stream->status());
      const cudaError_t answer = cudaStreamQuery(TargetOf(*lane.stream).stream);
      if (answer == cudaErrorNotReady) {
        cudaGetLastError();
      } else {
        Fail(LYCIA_CUDA_STATUS(answer, "moves between ranks on device ", ordinal));
      }
    }
    return status_;
  }

  Memory MemoryOf(const void* data) override {
    const Place place = PlaceOf(data);
    return place.kind == Place::kDevice ? Memory::kDevice : place.kind == Place::kPinned ? Memory::kPinned : Memory::kHost;
  }
  std::int64_t piece_bytes() const override { return piece_bytes_; }

 private:
  struct DeviceLane {
    std::unique_ptr<Device> device;
    std::unique_ptr<Stream> stream;
  };

  // Kernels on device `reader` may read memory of device `owner` from here on.
  static Status LetRead(int reader, int owner) {
    int possible = 0;
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaDeviceCanAccessPeer(&possible, reader, owner), "devices ", reader, " and ", owner));
    if (possible == 0) {
      return absl::UnavailableError(
          StrCat("device ", reader, " cannot read the memory of device ", owner,
                 "; put the ranks of this process on one device, or give each device a process of its own (NCCL)"));
    }
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaSetDevice(reader), "device ", reader));
    const cudaError_t answer = cudaDeviceEnablePeerAccess(owner, 0);
    if (answer != cudaErrorPeerAccessAlreadyEnabled) return LYCIA_CUDA_STATUS(answer, "devices ", reader, " and ", owner);
    cudaGetLastError();
    return OkStatus();
  }

  Place PlaceOf(const void* data) {
    cudaPointerAttributes attributes{};
    Fail(LYCIA_CUDA_STATUS(cudaPointerGetAttributes(&attributes, data), "address ", reinterpret_cast<std::uintptr_t>(data)));
    if (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged) return {Place::kDevice, attributes.device};
    return {attributes.type == cudaMemoryTypeHost ? Place::kPinned : Place::kPageable};
  }

  // The lane for the next move, which starts after the last one. Memory of a device that no rank is on is refused.
  DeviceLane& LaneAt(const Place& place) {
    DeviceLane* lane = last_;
    if (place.kind == Place::kDevice) {
      const auto found = lanes_.find(place.ordinal);
      if (found == lanes_.end()) {
        Fail(InvalidArgument("memory of device ", place.ordinal, ", which is not one of this world's devices"));
        return *last_;
      }
      lane = &found->second;
    }
    if (lane != last_) lane->stream->Wait(last_->stream->Record());
    last_ = lane;
    return *lane;
  }

  void Launch(DeviceLane& lane, DType dtype, std::span<const void* const> sources, std::int64_t elements, Fold fold, bool accumulate,
              void* out) {
    if (!status_.ok()) return;
    const int count = static_cast<int>(sources.size());
    LYCIA_CHECK_LE(count, kMostSources);
    if (count == 1 && sources[0] == out && !accumulate) return;
    FoldArgs args{.count = count, .dtype = dtype, .fold = fold, .accumulate = accumulate, .elements = elements, .out = out};
    std::copy(sources.begin(), sources.end(), args.sources);
    const StreamTarget target = TargetOf(*lane.stream);
    Fail(LYCIA_CUDA_STATUS(LaunchFold(target.stream, target.multiprocessors, args),
                           StrCat(elements, " ", Name(dtype), " of ", count, " ranks")));
  }

  void Fail(const Status& status) {
    if (status_.ok()) status_ = status;
  }

  const std::int64_t piece_bytes_;
  std::map<int, DeviceLane> lanes_;  // by ordinal
  DeviceLane* last_ = nullptr;       // of the last move
  Status status_;
};

}  // namespace

StatusOr<std::unique_ptr<Mover>> NewMover(const std::vector<int>& ordinals, std::int64_t piece_bytes) {
  LYCIA_CHECK(!ordinals.empty());
  auto mover = std::make_unique<CudaMover>(piece_bytes);
  LYCIA_RETURN_IF_ERROR(mover->Open(ordinals));
  return std::unique_ptr<Mover>(std::move(mover));
}

}  // namespace lycia::cuda
