#include "runtime/comm/staged_wire.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "runtime/core/check.h"

namespace lycia {
namespace {

class StagedWire final : public Wire {
 public:
  StagedWire(std::unique_ptr<Wire> beneath, std::unique_ptr<Mover> mover, DeviceMessages messages)
      : Wire(std::move(mover)), beneath_(std::move(beneath)), messages_(messages) {}
  ~StagedWire() override { mover().Settle(); }

  bool external() const override { return true; }  // copies end without anybody being told
  std::int64_t max_tag() const override { return beneath_->max_tag(); }
  std::int64_t max_message_bytes() const override { return beneath_->max_message_bytes(); }
  Port* Open(const PortName& name, int requests) override { return beneath_->Open(name, requests); }
  void Close(Port* port) override { beneath_->Close(port); }

  void Send(Port* port, const void* data, std::int64_t bytes, bool confirmed, Request* request) override {
    *request = Request{.done = false, .bytes = bytes, .data = data, .port = port, .is_send = true};
    Transfer& transfer = Start(request);
    transfer.confirmed = confirmed;
    const Mover::Memory memory = bytes == 0 ? Mover::Memory::kHost : mover().MemoryOf(data);
    if (memory == Mover::Memory::kHost) return;
    if (memory == Mover::Memory::kDevice && messages_ == DeviceMessages::kStaged) {
      transfer.staging = Take(bytes);
      if (transfer.staging == nullptr) return;
      mover().Copy(transfer.staging, data, bytes);
    }
    // Earlier moves write what is sent.
    transfer.ready = mover().Record();
  }

  void Receive(Port* port, void* data, std::int64_t bytes, Request* request) override {
    *request = Request{.done = false, .bytes = bytes, .data = data, .port = port};
    Transfer& transfer = Start(request);
    const Mover::Memory memory = bytes == 0 ? Mover::Memory::kHost : mover().MemoryOf(data);
    if (memory == Mover::Memory::kDevice && messages_ == DeviceMessages::kStaged) {
      transfer.staging = Take(bytes);
    } else if (memory != Mover::Memory::kHost) {
      transfer.ready = mover().Record();  // earlier moves may still read what is overwritten
    }
  }
  void Borrow(Port* port, void* data, std::int64_t bytes, Request* request) override { Receive(port, data, bytes, request); }
  void GiveBack(Request*) override {}

  void Cancel(Request* request) override {
    const auto found = std::find_if(open_.begin(), open_.end(), [&](const auto& transfer) { return transfer->outer == request; });
    if (found != open_.end()) {
      if ((*found)->started && !(*found)->inner.done) beneath_->Cancel(&(*found)->inner);
      End(**found);
      Recycle(static_cast<std::size_t>(found - open_.begin()));
    }
    request->done = true;
  }

  void Abandon() override {
    abandoned_ = true;
    beneath_->Abandon();
  }

  bool Poll() override {
    if (abandoned_ || !status().ok()) return false;
    GiveStagingBack();
    bool moved = StartReady();
    moved |= beneath_->Poll();
    for (std::size_t i = 0; i < open_.size();) {
      Transfer& transfer = *open_[i];
      if (!transfer.started || !transfer.inner.done) {
        ++i;
        continue;
      }
      moved = true;
      Complete(transfer);
      Recycle(i);
    }
    if (!beneath_->status().ok()) Fail(beneath_->status());
    if (const Status moves = mover().Check(); !moves.ok()) Fail(moves);
    return moved;
  }

 private:
  struct Transfer {
    Request inner;  // of the wire beneath
    Request* outer = nullptr;
    char* staging = nullptr;  // page-locked; null: none
    Event ready;              // then it may start
    bool confirmed = false, started = false;
  };

  // In the order of the calls, which the wire beneath keeps for each port. The mover's events come to pass in the same order.
  Transfer& Start(Request* request) {
    std::unique_ptr<Transfer> transfer;
    if (spare_.empty()) {
      transfer = std::make_unique<Transfer>();
    } else {
      transfer = std::move(spare_.back());
      spare_.pop_back();
      *transfer = Transfer{};
    }
    transfer->outer = request;
    open_.push_back(std::move(transfer));
    return *open_.back();
  }

  void Recycle(std::size_t at) {
    spare_.push_back(std::move(open_[at]));
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  bool StartReady() {
    bool moved = false;
    for (const std::unique_ptr<Transfer>& transfer : open_) {
      if (transfer->started) continue;
      if (!transfer->ready.Done()) break;
      const Request& outer = *transfer->outer;
      void* data = transfer->staging != nullptr ? transfer->staging : const_cast<void*>(outer.data);
      transfer->started = moved = true;
      if (outer.is_send) {
        beneath_->Send(outer.port, data, outer.bytes, transfer->confirmed, &transfer->inner);
      } else {
        beneath_->Receive(outer.port, data, outer.bytes, &transfer->inner);
      }
    }
    return moved;
  }

  void Complete(Transfer& transfer) {
    Request& outer = *transfer.outer;
    if (!outer.is_send) {
      outer.bytes = transfer.inner.bytes;
      if (transfer.staging != nullptr) mover().Copy(const_cast<void*>(outer.data), transfer.staging, outer.bytes);
    }
    End(transfer);
    outer.done = true;
  }

  void End(Transfer& transfer) {
    if (transfer.staging != nullptr) used_.push_back({std::exchange(transfer.staging, nullptr), mover().Record()});
  }

  // ---- Page-locked memory: blocks of powers of two, made when the first message needs them and kept ----

  char* Take(std::int64_t bytes) {
    constexpr std::uint64_t kSmallest = 4096;
    const std::uint64_t size = std::bit_ceil(std::max(static_cast<std::uint64_t>(bytes), kSmallest));
    std::vector<char*>& free = free_[size];
    if (free.empty()) {
      StatusOr<Buffer> made = mover().Allocate(static_cast<std::int64_t>(size));
      if (!made.ok()) {
        Fail(made.status());
        return nullptr;
      }
      free.push_back(static_cast<char*>(made->data()));
      size_of_[free.back()] = size;
      blocks_.push_back(*std::move(made));
    }
    char* block = free.back();
    free.pop_back();
    return block;
  }

  void GiveStagingBack() {
    while (!used_.empty() && used_.front().read.Done()) {
      free_[size_of_.at(used_.front().block)].push_back(used_.front().block);
      used_.pop_front();
    }
  }

  struct Used {
    char* block = nullptr;
    Event read;
  };

  const std::unique_ptr<Wire> beneath_;
  const DeviceMessages messages_;
  bool abandoned_ = false;
  std::vector<std::unique_ptr<Transfer>> open_, spare_;
  std::map<std::uint64_t, std::vector<char*>> free_;  // by size
  std::map<char*, std::uint64_t> size_of_;
  std::deque<Used> used_;  // until the copies from them have happened
  std::vector<Buffer> blocks_;
};

}  // namespace

std::unique_ptr<Wire> NewStagedWire(std::unique_ptr<Wire> beneath, std::unique_ptr<Mover> mover, DeviceMessages messages) {
  return std::make_unique<StagedWire>(std::move(beneath), std::move(mover), messages);
}

}  // namespace lycia
