// What the device of the fake NCCL does: ranks of a clique meet in collectives, messages find their receives.
#include "runtime/comm/testing/fake_nccl_clique.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/status.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia::fake_nccl {

State& TheState() {
  static State state;
  return state;
}

ncclResult_t Misused(const std::string& what) {
  std::string& misuse = TheState().misuse;
  if (misuse.empty()) misuse = what;
  return ncclInvalidUsage;
}

ncclResult_t Check(ncclComm_t comm, bool split) {
  if (!TheState().misuse.empty()) return ncclInvalidUsage;
  if (comm->thread != std::this_thread::get_id()) return Misused(comm->name + " is called by a second thread");
  if (comm->starting || comm->splitting || !comm->called.empty()) return Misused(comm->name + " is called while it is in progress");
  if (split && comm->launched != comm->finished) return Misused(comm->name + " is split while operations are open");
  return ncclSuccess;
}

namespace {

// Runs on the device: true once the item is done. Under the locks of the runtime and of this file.
bool Play(ncclComm& comm, Item& item) {
  Clique& clique = *comm.clique;
  if (clique.dead) return false;
  if (item.kind == Item::kCollective) {
    Meeting& meeting = clique.meetings[item.place];
    if (!item.posted) {
      item.posted = true;
      if (meeting.operands.empty()) meeting.operands.resize(static_cast<std::size_t>(clique.size));
      if (meeting.arrived > 0 && meeting.what != item.what) {
        Misused(StrCat(comm.name, ": rank ", comm.rank, " calls ", item.what, ", another one ", meeting.what));
        return false;
      }
      meeting.what = item.what;
      meeting.operands[static_cast<std::size_t>(comm.rank)] = item.operand;
      if (++meeting.arrived == clique.size) {
        item.compute(meeting);
        meeting.done = true;
      }
    }
    if (!meeting.done) return false;
    if (++meeting.left == clique.size) clique.meetings.erase(item.place);
    return true;
  }
  const bool send = item.kind == Item::kSend;
  Pair& pair = clique.pairs[send ? std::pair(comm.rank, item.peer) : std::pair(item.peer, comm.rank)];
  if (!item.posted) {
    item.posted = true;
    if (send) {
      pair.sent.push_back(item.operand.in);
      pair.sent_bytes.push_back(item.bytes);
      item.place = ++pair.sends;
    } else {
      pair.wanted.push_back(item.operand.out);
      pair.wanted_bytes.push_back(item.bytes);
      item.place = ++pair.receives;
    }
  }
  while (!pair.sent.empty() && !pair.wanted.empty()) {
    if (pair.sent_bytes.front() != pair.wanted_bytes.front()) {
      Misused(StrCat(comm.name, ": ", pair.sent_bytes.front(), " bytes sent, ", pair.wanted_bytes.front(), " wanted"));
      return false;
    }
    std::memcpy(pair.wanted.front(), pair.sent.front(), pair.sent_bytes.front());
    pair.sent.pop_front();
    pair.sent_bytes.pop_front();
    pair.wanted.pop_front();
    pair.wanted_bytes.pop_front();
    ++pair.matched;
  }
  return pair.matched >= item.place;
}

}  // namespace

bool Connected(ncclComm& comm) {
  bool connected = true;
  for (Operation& operation : comm.called) {
    for (Item& item : operation.items) {
      if (item.kind == Item::kCollective) continue;
      const bool send = item.kind == Item::kSend;
      Pair& pair = comm.clique->pairs[send ? std::pair(comm.rank, item.peer) : std::pair(item.peer, comm.rank)];
      (send ? pair.sender_called : pair.receiver_called) = true;
      connected = connected && pair.sender_called && pair.receiver_called;
    }
  }
  return connected;
}

void Launch(ncclComm& comm, std::unique_lock<std::mutex>& lock) {
  std::vector<Operation> called = std::exchange(comm.called, {});
  for (Operation& operation : called) {
    const std::uint64_t place = comm.launched++;
    for (Item& item : operation.items) {
      if (item.kind == Item::kCollective) item.place = comm.collectives++;
      std::vector<std::string>& launches = TheState().launches[comm.world_rank];
      const std::string text = StrCat(comm.name, " ", item.what.substr(0, item.what.find(' ')));
      operation.launches.push_back({text, static_cast<int>(std::count(launches.begin(), launches.end(), text))});
      launches.push_back(text);
    }
    auto shared = std::make_shared<Operation>(std::move(operation));
    // Outlives the communicator: a stream may still hold it after an abort.
    auto play = [comm_pointer = &comm, gone = comm.aborted, shared, place] {
      std::lock_guard<std::mutex> guard(TheState().mutex);
      if (*gone) return true;
      if (comm_pointer->finished < place) return false;
      for (const auto& [text, number] : shared->launches) {
        if (TheState().held && TheState().held(comm_pointer->world_rank, text, number)) return false;
      }
      shared->launches.clear();
      bool done = true;
      for (Item& item : shared->items) {
        if (!item.done) item.done = Play(*comm_pointer, item);
        done = done && item.done;
      }
      if (done) ++comm_pointer->finished;
      return done;
    };
    lock.unlock();
    lycia::fake_cuda::EnqueueWork(shared->stream, play);
    lock.lock();
  }
}

}  // namespace lycia::fake_nccl
