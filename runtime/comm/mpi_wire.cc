#include "runtime/comm/mpi_wire.h"

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX
#endif
#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif
#include <unistd.h>

#include <limits>
#include <vector>

#include "runtime/comm/transports.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return absl::StrCat("error ", code);
  return std::string(text, static_cast<std::size_t>(length));
}

std::string_view LevelName(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE:
      return "MPI_THREAD_SINGLE";
    case MPI_THREAD_FUNNELED:
      return "MPI_THREAD_FUNNELED";
    case MPI_THREAD_SERIALIZED:
      return "MPI_THREAD_SERIALIZED";
    case MPI_THREAD_MULTIPLE:
      return "MPI_THREAD_MULTIPLE";
  }
  return "unknown thread level";
}

struct MpiPort final : Wire::Port {
  int peer = 0;
  int tag = 0;
};

class MpiWire final : public Wire {
 public:
  // Owns the initialised library.
  explicit MpiWire(MPI_Comm comm, std::int64_t max_tag, int rank) : comm_(comm), max_tag_(max_tag), rank_(rank) {}

  // Finalize waits for the peers, so it is only called where they are known to come.
  ~MpiWire() override {
    if (abandoned_) return;
    MPI_Comm_free(&comm_);
    MPI_Finalize();
  }

  bool external() const override { return true; }
  std::int64_t max_tag() const override { return max_tag_; }
  std::int64_t max_message_bytes() const override { return std::numeric_limits<int>::max(); }

  Port* Open(const PortName& name, int requests) override {
    LYCIA_CHECK(name.tag >= 0 && name.tag <= max_tag_) << "tag " << name.tag << " ";
    auto* port = new MpiPort;
    port->peer = name.from == rank_ ? name.to : name.from;
    port->tag = static_cast<int>(name.tag);
    room_ += static_cast<std::size_t>(requests);
    open_.reserve(room_);
    owners_.reserve(room_);
    indices_.resize(room_);
    statuses_.resize(room_);
    return port;
  }
  void Close(Port* port) override { delete static_cast<MpiPort*>(port); }

  void Send(Port* port, const void* data, std::int64_t bytes, bool confirmed, Request* request) override {
    const auto* to = static_cast<const MpiPort*>(port);
    Start(port, data, bytes, /*is_send=*/true, request);
    Check(confirmed ? MPI_Issend(data, static_cast<int>(bytes), MPI_BYTE, to->peer, to->tag, comm_, &open_.back())
                    : MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to->peer, to->tag, comm_, &open_.back()),
          "send");
  }

  void Receive(Port* port, void* data, std::int64_t bytes, Request* request) override {
    const auto* from = static_cast<const MpiPort*>(port);
    Start(port, data, bytes, /*is_send=*/false, request);
    Check(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from->peer, from->tag, comm_, &open_.back()), "receive");
  }

  void Borrow(Port* port, void* data, std::int64_t bytes, Request* request) override { Receive(port, data, bytes, request); }
  void GiveBack(Request*) override {}

  // A posted receive can be taken back. A send cannot, in practice; its peer will never be able to end in order.
  void Cancel(Request* request) override {
    if (request->done) return;
    MPI_Request* open = &open_[static_cast<std::size_t>(request->index)];
    if (request->is_send) {
      MPI_Request_free(open);
      abandoned_ = true;
    } else {
      MPI_Cancel(open);
      MPI_Wait(open, MPI_STATUS_IGNORE);
    }
    Forget(request->index);
    request->done = true;
  }

  void Abandon() override { abandoned_ = true; }

  bool Poll() override {
    if (!status().ok()) return false;
    int completed = 0;
    if (open_.empty()) {  // sends that are done for us may still have to be pushed out
      Check(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_, &completed, MPI_STATUS_IGNORE), "MPI_Iprobe");
      return false;
    }
    const int code = MPI_Testsome(static_cast<int>(open_.size()), open_.data(), &completed, indices_.data(), statuses_.data());
    if (code == MPI_ERR_IN_STATUS) {
      for (int i = 0; i < completed; ++i) Check(statuses_[static_cast<std::size_t>(i)].MPI_ERROR, "message");
      return true;
    }
    Check(code, "MPI_Testsome");
    if (!status().ok() || completed == MPI_UNDEFINED || completed == 0) return false;
    for (int i = 0; i < completed; ++i) {
      Request* request = owners_[static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)])];
      if (!request->is_send) {
        int bytes = 0;
        MPI_Get_count(&statuses_[static_cast<std::size_t>(i)], MPI_BYTE, &bytes);
        request->bytes = bytes;
      }
      request->done = true;
    }
    for (std::size_t i = open_.size(); i-- > 0;) {
      if (owners_[i]->done) Forget(static_cast<int>(i));
    }
    return true;
  }

 private:
  void Start(Port* port, const void* data, std::int64_t bytes, bool is_send, Request* request) {
    LYCIA_CHECK_LE(bytes, max_message_bytes());
    LYCIA_CHECK_LT(open_.size(), room_) << "more requests than were announced ";
    *request =
        Request{.done = false, .bytes = bytes, .data = data, .port = port, .index = static_cast<int>(open_.size()), .is_send = is_send};
    open_.push_back(MPI_REQUEST_NULL);
    owners_.push_back(request);
  }

  void Forget(int index) {
    const std::size_t at = static_cast<std::size_t>(index);
    open_[at] = open_.back();
    owners_[at] = owners_.back();
    owners_[at]->index = index;
    open_.pop_back();
    owners_.pop_back();
  }

  void Check(int code, std::string_view what) {
    if (code == MPI_SUCCESS || code == MPI_ERR_PENDING) return;
    Fail(absl::UnavailableError(absl::StrCat("MPI ", std::string(what), " failed on rank ", rank_, ": ", ErrorText(code))));
  }

  MPI_Comm comm_;
  const std::int64_t max_tag_;
  const int rank_;
  bool abandoned_ = false;
  std::size_t room_ = 0;
  std::vector<MPI_Request> open_;  // parallel to owners_
  std::vector<Request*> owners_;
  std::vector<int> indices_;  // of MPI_Testsome
  std::vector<MPI_Status> statuses_;
};

Status ToStatus(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return OkStatus();
  return absl::UnavailableError(absl::StrCat(std::string(what), " failed: ", ErrorText(code)));
}

}  // namespace

StatusOr<std::unique_ptr<Wire>> OpenMpiWire(int* rank, int* size) {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised) return absl::FailedPreconditionError("MPI can be initialised once in a process, and was before");
  int level = MPI_THREAD_SINGLE;
  LYCIA_RETURN_IF_ERROR(ToStatus(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread"));
  // Calls come from this thread alone, which MPI now takes for the main one: FUNNELED would do.
  if (level < MPI_THREAD_FUNNELED) {
    return absl::UnavailableError(absl::StrCat("MPI offers ", std::string(LevelName(level)), "; at least MPI_THREAD_FUNNELED is needed: ",
                                               "use an MPI library built with thread support"));
  }
  MPI_Comm comm = MPI_COMM_NULL;
  LYCIA_RETURN_IF_ERROR(ToStatus(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm, rank);
  MPI_Comm_size(comm, size);
  void* upper_bound = nullptr;
  int found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &upper_bound, &found);
  constexpr std::int64_t kLeastTagUpperBound = 32767;  // of the standard
  const std::int64_t max_tag = found ? *static_cast<const int*>(upper_bound) : kLeastTagUpperBound;
  return std::make_unique<MpiWire>(comm, max_tag, *rank);
}

bool MpiInThisBuild() { return true; }

bool MpiTakesDeviceMemory() {
#if defined(MPIX_CUDA_AWARE_SUPPORT)
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

std::string MpiDescription() {
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(version, &length);
  std::string text(version, static_cast<std::size_t>(length));
  text = text.substr(0, text.find_first_of(",\n"));
  int initialised = 0, level = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialised);
  if (!initialised) return absl::StrCat(text, ", not initialised (not started by mpirun or srun)");
  MPI_Query_thread(&level);
  return absl::StrCat(text, ", ", std::string(LevelName(level)));
}

void MpiAbort(int exit_code) {
  int initialised = 0, finalised = 0, level = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  if (!initialised || finalised) return;
  MPI_Query_thread(&level);
  // Without thread support only the communication thread may call; a process that ends without MPI_Finalize tells the launcher as well.
  if (level == MPI_THREAD_MULTIPLE) MPI_Abort(MPI_COMM_WORLD, exit_code);
  ::_exit(exit_code);
}

}  // namespace lycia
