#include "runtime/comm/nccl_rank.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "runtime/comm/nccl_error.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::nccl {
namespace {

// The issuing thread brings no messages of its own.
class NoWire final : public Wire {
 public:
  bool external() const override { return true; }  // NCCL has news without anybody here waking the thread
  std::int64_t max_tag() const override { return 0; }
  std::int64_t max_message_bytes() const override { return 0; }
  Port* Open(const PortName&, int) override { return None(); }
  void Close(Port*) override { None(); }
  void Send(Port*, const void*, std::int64_t, bool, Request*) override { None(); }
  void Receive(Port*, void*, std::int64_t, Request*) override { None(); }
  void Borrow(Port*, void*, std::int64_t, Request*) override { None(); }
  void GiveBack(Request*) override { None(); }
  void Cancel(Request*) override { None(); }
  bool Poll() override { return false; }

 private:
  static Port* None() {
    LYCIA_CHECK(false) << "NCCL's issuing thread has no wire ";
    return nullptr;
  }
};

}  // namespace

void Family::Add(Engine* engine) {
  std::lock_guard<std::mutex> lock(mutex_);
  engines_.push_back(engine);
}

void Family::Remove(Engine* engine) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::erase(engines_, engine);
}

void Family::Abort(const Status& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Engine* engine : engines_) engine->Abort(why);
}

Status RankState::Open() {
  LYCIA_ASSIGN_OR_RETURN(device, NewCudaDevice(options.device));
  if (options.serial) {
    LYCIA_ASSIGN_OR_RETURN(common_stream, device->NewStream());
  }
  LYCIA_ASSIGN_OR_RETURN(engine, Engine::Start([]() -> StatusOr<std::unique_ptr<Wire>> { return std::make_unique<NoWire>(); }));
  engine->Add(&issuer);
  family->Add(engine.get());
  return OkStatus();
}

RankState::~RankState() {
  if (engine == nullptr) return;
  family->Remove(engine.get());
  engine->Remove(&issuer);
}

StatusOr<std::unique_ptr<Lane>> RankState::NewLane(std::string name, int rank, int size, bool collective) {
  auto lane = std::make_unique<Lane>();
  lane->name = std::move(name);
  lane->rank = rank;
  lane->size = size;
  lane->collective = collective;
  if (collective && common_stream != nullptr) {
    lane->stream = common_stream.get();
  } else {
    LYCIA_ASSIGN_OR_RETURN(lane->own_stream, device->NewStream());
    lane->stream = lane->own_stream.get();
  }
  LYCIA_RETURN_IF_ERROR(lane->events.Create());
  return lane;
}

Status RankState::Create(Lane* lane, Lane* parent, const std::function<Status()>& call) {
  const auto deadline = std::chrono::steady_clock::now() + options.setup_patience;
  Status called;
  engine->Do([&](Wire&) {
    if (!ok()) return;
    cuda::TargetOf(lane != nullptr ? *lane->stream : *parent->stream);  // the device is current for NCCL
    called = call();
    if (lane != nullptr) issuer.Add(lane);
  });
  while (called.ok()) {
    bool settled = false;
    engine->Do([&](Wire&) {
      if (!ok()) {
        called = issuer.failure();
        return;
      }
      // The parent first: NCCL may name the new communicator only when the parent has done its part.
      settled = true;
      for (Lane* made : {parent, lane}) {
        if (made == nullptr || !settled) continue;
        const StatusOr<bool> one = made->comm == nullptr ? StatusOr<bool>(false) : Settled(*made);
        called = one.status();
        settled = one.ok() && *one;
      }
    });
    if (!called.ok()) break;
    if (settled) return OkStatus();
    if (std::chrono::steady_clock::now() > deadline) {
      const Lane& told = lane != nullptr ? *lane : *parent;
      called = absl::DeadlineExceededError(
          StrCat("NCCL communicator ", told.name, " has not come about within ", options.setup_patience.count(), " ms: rank ", told.rank,
                 " still waits for one of the other ", told.size, "; did all of them come here, on GPUs of their own?"));
      break;
    }
    constexpr timespec kNap{0, 200'000};
    ::nanosleep(&kNap, nullptr);
  }
  Abort(called);
  return called;
}

void RankState::Abort(const Status& why) {
  family->Abort(why);
  control->Abort(why);
  engine->Do([](Wire&) {});  // until this rank's issuing thread has seen it
}

}  // namespace lycia::nccl
