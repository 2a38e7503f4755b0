#include "runtime/comm/testing/fake_nccl.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <thread>

#include "runtime/comm/fold.h"
#include "runtime/core/check.h"
#include "runtime/core/status.h"
#include "runtime/device/testing/fake_cuda.h"

namespace {

using lycia::DType;
using lycia::StrCat;

struct Operand {
  const void* in = nullptr;
  void* out = nullptr;
};

// A collective in which the ranks of a clique meet.
struct Meeting {
  std::string what;  // kind, count, type: the same for all
  std::vector<Operand> operands;
  int arrived = 0, left = 0;
  bool done = false;
};

// One direction of point-to-point messages.
struct Pair {
  std::deque<std::size_t> sent_bytes;
  std::deque<const void*> sent;
  std::deque<void*> wanted;
  std::deque<std::size_t> wanted_bytes;
  std::uint64_t sends = 0, receives = 0, matched = 0;  // posted; copied
  bool sender_called = false, receiver_called = false;
};

struct Clique {
  int size = 0;
  int joined = 0;
  bool dead = false;                                 // a member was aborted: nothing moves any more
  std::map<std::uint64_t, Meeting> meetings;         // by place in the order of collectives
  std::map<std::pair<int, int>, Pair> pairs;         // by (from, to)
  std::map<std::uint64_t, std::vector<int>> splits;  // ranks that called split k
  std::map<std::pair<std::uint64_t, int>, std::shared_ptr<Clique>> children;
  std::map<std::uint64_t, std::vector<std::array<int, 3>>> split_said;  // (color, key, rank)
};

// A collective or a message as part of an operation.
struct Item {
  enum Kind { kCollective, kSend, kReceive } kind = kCollective;
  std::string what;
  Operand operand;
  std::function<void(Meeting&)> compute;
  int peer = 0;
  std::size_t bytes = 0;
  std::uint64_t place = 0;  // among the communicator's collectives, or the pair's messages
  bool posted = false, done = false;
};

struct Operation {
  std::vector<Item> items;
  cudaStream_t stream = nullptr;
};

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank = 0, world_rank = 0;
  std::string name;
  std::thread::id thread;
  std::vector<Operation> called;  // in progress: not yet on the stream
  int polls = 0;                  // asked since
  bool starting = true;           // the clique is not complete
  bool splitting = false;
  std::uint64_t split_place = 0;
  ncclComm** child = nullptr;  // of the split under way
  int child_color = 0, child_key = 0;
  std::string child_name;
  std::uint64_t collectives = 0, splits = 0, launched = 0, finished = 0;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
};

namespace {

std::mutex mutex;
std::map<std::string, std::shared_ptr<Clique>> cliques;  // by unique id
std::map<int, std::vector<std::string>> launches, splits;
std::map<int, ncclResult_t> broken;
int alive = 0, aborted = 0;
std::string misuse;

struct Group {
  int depth = 0;
  std::map<ncclComm_t, Operation> of;
  std::vector<ncclComm_t> order;
  ncclResult_t failure = ncclSuccess;
};
thread_local Group group;

ncclResult_t Misused(const std::string& what) {
  if (misuse.empty()) misuse = what;
  return ncclInvalidUsage;
}

std::size_t SizeOf(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

DType TypeOf(ncclDataType_t type) {
  switch (type) {
    case ncclBfloat16:
      return DType::kBF16;
    case ncclFloat16:
      return DType::kF16;
    case ncclFloat32:
      return DType::kF32;
    case ncclFloat64:
      return DType::kF64;
    case ncclInt64:
    case ncclUint64:
      return DType::kI64;
    default:
      LYCIA_CHECK(false) << "a sum of NCCL type " << static_cast<int>(type) << " ";
  }
  return DType::kU8;
}

bool Reachable(const void* data) {
  cudaPointerAttributes attributes{};
  return data == nullptr || (cudaPointerGetAttributes(&attributes, data) == cudaSuccess && attributes.type != cudaMemoryTypeUnregistered);
}

// The sum from the last rank down, into each of `outs`.
void Reduce(const Meeting& meeting, ncclDataType_t type, ncclRedOp_t op, std::size_t offset, std::size_t count,
            std::span<void* const> outs) {
  std::vector<const void*> sources;
  for (std::size_t r = meeting.operands.size(); r-- > 0;) {
    sources.push_back(static_cast<const char*>(meeting.operands[r].in) + offset * SizeOf(type));
  }
  std::vector<char> sum(count * SizeOf(type));
  lycia::LeftFold(TypeOf(type), sources, static_cast<std::int64_t>(count), op == ncclMax ? lycia::Fold::kLargest : lycia::Fold::kSum, false,
                  sum.data());
  for (void* out : outs) std::memcpy(out, sum.data(), sum.size());
}

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

// Both ranks of every message have called at least once.
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

// Puts what was called on its streams; under the lock, which is given up for it.
void Launch(ncclComm& comm, std::unique_lock<std::mutex>& lock) {
  std::vector<Operation> called = std::exchange(comm.called, {});
  for (Operation& operation : called) {
    const std::uint64_t place = comm.launched++;
    for (Item& item : operation.items) {
      if (item.kind == Item::kCollective) item.place = comm.collectives++;
      launches[comm.world_rank].push_back(StrCat(comm.name, " ", item.what.substr(0, item.what.find(' '))));
    }
    auto shared = std::make_shared<Operation>(std::move(operation));
    // Outlives the communicator: a stream may still hold it after an abort.
    auto play = [comm_pointer = &comm, gone = comm.aborted, shared, place] {
      std::lock_guard<std::mutex> held(mutex);
      if (*gone) return true;
      if (comm_pointer->finished < place) return false;
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

ncclComm* NewComm(std::shared_ptr<Clique> clique, int rank, int world_rank, const ncclConfig_t* config) {
  auto* comm = new ncclComm;
  comm->clique = std::move(clique);
  comm->rank = rank;
  comm->world_rank = world_rank;
  comm->name = config->commName == nullptr ? "?" : config->commName;
  comm->thread = std::this_thread::get_id();
  ++alive;
  return comm;
}

// The split of `comm` once all its ranks have called it.
void FinishSplit(ncclComm& comm) {
  Clique& clique = *comm.clique;
  const auto& said = clique.split_said[comm.split_place];
  if (static_cast<int>(said.size()) < clique.size) return;
  comm.splitting = false;
  if (comm.child_color == NCCL_SPLIT_NOCOLOR) return;
  std::vector<std::pair<int, int>> members;  // (key, rank)
  for (const auto& [color, key, rank] : said) {
    if (color == comm.child_color) members.push_back({key, rank});
  }
  std::sort(members.begin(), members.end());
  std::shared_ptr<Clique>& child = clique.children[{comm.split_place, comm.child_color}];
  if (child == nullptr) {
    child = std::make_shared<Clique>();
    child->size = static_cast<int>(members.size());
  }
  const auto own = std::find(members.begin(), members.end(), std::pair(comm.child_key, comm.rank));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.commName = comm.child_name.c_str();
  *comm.child = NewComm(child, static_cast<int>(own - members.begin()), comm.world_rank, &config);
  ++child->joined;
}

ncclResult_t Check(ncclComm_t comm, bool split = false) {
  if (!misuse.empty()) return ncclInvalidUsage;
  if (comm->thread != std::this_thread::get_id()) return Misused(comm->name + " is called by a second thread");
  if (comm->starting || comm->splitting || !comm->called.empty()) return Misused(comm->name + " is called while it is in progress");
  if (split && comm->launched != comm->finished) return Misused(comm->name + " is split while operations are open");
  return ncclSuccess;
}

ncclResult_t Add(ncclComm_t comm, cudaStream_t stream, Item item) {
  if (!Reachable(item.operand.in) || !Reachable(item.operand.out)) {
    std::lock_guard<std::mutex> lock(mutex);
    return Misused(StrCat(comm->name, ": ", item.what, " in pageable memory"));
  }
  std::lock_guard<std::mutex> lock(mutex);
  if (group.depth == 0) {
    if (const ncclResult_t checked = Check(comm); checked != ncclSuccess) return checked;
    comm->called.push_back({{std::move(item)}, stream});
    comm->polls = 0;
    return ncclInProgress;
  }
  Operation& operation = group.of[comm];
  if (operation.items.empty()) {
    group.order.push_back(comm);
    if (const ncclResult_t checked = Check(comm); checked != ncclSuccess) return checked;
  }
  operation.stream = stream;
  operation.items.push_back(std::move(item));
  return ncclSuccess;
}

Item Collective(std::string what, Operand operand, std::function<void(Meeting&)> compute) {
  return {.kind = Item::kCollective, .what = std::move(what), .operand = operand, .compute = std::move(compute)};
}

}  // namespace

namespace lycia::fake_nccl {

std::vector<std::string> LaunchesOf(int world_rank) {
  std::lock_guard<std::mutex> lock(mutex);
  return launches[world_rank];
}
std::vector<std::string> SplitsOf(int world_rank) {
  std::lock_guard<std::mutex> lock(mutex);
  return splits[world_rank];
}
int Alive() {
  std::lock_guard<std::mutex> lock(mutex);
  return alive;
}
int Aborted() {
  std::lock_guard<std::mutex> lock(mutex);
  return aborted;
}
void Break(int world_rank, ncclResult_t result) {
  std::lock_guard<std::mutex> lock(mutex);
  broken[world_rank] = result;
}
void Reset() {
  std::lock_guard<std::mutex> lock(mutex);
  LYCIA_CHECK_EQ(alive, 0);
  cliques.clear();
  launches.clear();
  splits.clear();
  broken.clear();
  aborted = 0;
  misuse.clear();
}

}  // namespace lycia::fake_nccl

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error" : "fake";
}
const char* ncclGetLastError(ncclComm_t) {
  std::lock_guard<std::mutex> lock(mutex);
  return misuse.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device device;
  for (char& c : id->internal) c = static_cast<char>(device());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  std::lock_guard<std::mutex> lock(mutex);
  if (config->blocking != 0) return Misused("a blocking communicator");
  std::shared_ptr<Clique>& clique = cliques[std::string(id.internal, sizeof id.internal)];
  if (clique == nullptr) {
    clique = std::make_shared<Clique>();
    clique->size = nranks;
  }
  if (clique->size != nranks) return Misused("ranks count differently");
  *comm = NewComm(clique, rank, rank, config);
  ++clique->joined;
  return ncclInProgress;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* child, ncclConfig_t* config) {
  std::lock_guard<std::mutex> lock(mutex);
  if (const ncclResult_t checked = Check(comm, /*split=*/true); checked != ncclSuccess) return checked;
  splits[comm->world_rank].push_back(StrCat(comm->name, " split color ", color, " key ", key));
  comm->splitting = true;
  comm->split_place = comm->splits++;
  comm->child = child;
  comm->child_color = color;
  comm->child_key = key;
  comm->child_name = config->commName == nullptr ? "" : config->commName;
  comm->polls = 0;
  *child = nullptr;
  comm->clique->split_said[comm->split_place].push_back({color, key, comm->rank});
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  std::unique_lock<std::mutex> lock(mutex);
  *state = ncclSuccess;
  if (const auto found = broken.find(comm->world_rank); found != broken.end()) {
    *state = found->second;
    return ncclSuccess;
  }
  if (!misuse.empty()) {
    *state = ncclInvalidUsage;
    return ncclSuccess;
  }
  const bool late = ++comm->polls < 2;
  if (comm->starting) comm->starting = comm->clique->joined < comm->clique->size;
  if (comm->splitting && !late) FinishSplit(*comm);
  if (!comm->called.empty() && !late && Connected(*comm)) Launch(*comm, lock);
  if (comm->starting || comm->splitting || !comm->called.empty()) *state = ncclInProgress;
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  std::lock_guard<std::mutex> lock(mutex);
  if (comm->launched != comm->finished) Misused(comm->name + " is destroyed while operations are open");
  *comm->aborted = true;
  delete comm;
  --alive;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  std::lock_guard<std::mutex> lock(mutex);
  *comm->aborted = true;
  comm->clique->dead = true;
  delete comm;
  --alive;
  ++aborted;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0) return ncclSuccess;
  std::lock_guard<std::mutex> lock(mutex);
  for (ncclComm_t comm : group.order) {
    comm->called.push_back(std::move(group.of[comm]));
    comm->polls = 0;
  }
  const bool any = !group.order.empty();
  group.order.clear();
  group.of.clear();
  return any ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("all-reduce ", count, " ", static_cast<int>(type)), {in, out}, [=](Meeting& meeting) {
               std::vector<void*> outs;
               for (const Operand& operand : meeting.operands) outs.push_back(operand.out);
               Reduce(meeting, type, op, 0, count, outs);
             }));
}

ncclResult_t ncclReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("reduce ", count, " ", static_cast<int>(type), " ", root), {in, out}, [=](Meeting& meeting) {
               void* const outs[] = {meeting.operands[static_cast<std::size_t>(root)].out};
               Reduce(meeting, type, op, 0, count, outs);
             }));
}

ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("reduce-scatter ", count, " ", static_cast<int>(type)), {in, out}, [=](Meeting& meeting) {
               // In place a shard would be overwritten before others have read it.
               std::vector<std::vector<char>> shards;
               for (std::size_t r = 0; r < meeting.operands.size(); ++r) {
                 shards.emplace_back(count * SizeOf(type));
                 void* const outs[] = {shards.back().data()};
                 Reduce(meeting, type, op, r * count, count, outs);
               }
               for (std::size_t r = 0; r < shards.size(); ++r) std::memcpy(meeting.operands[r].out, shards[r].data(), shards[r].size());
             }));
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("all-gather ", count, " ", static_cast<int>(type)), {in, out}, [=](Meeting& meeting) {
               const std::size_t bytes = count * SizeOf(type);
               for (std::size_t r = 0; r < meeting.operands.size(); ++r) {
                 for (const Operand& to : meeting.operands)
                   std::memmove(static_cast<char*>(to.out) + r * bytes, meeting.operands[r].in, bytes);
               }
             }));
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             Collective(StrCat("broadcast ", count, " ", static_cast<int>(type), " ", root), {in, out}, [=](Meeting& meeting) {
               const void* from = meeting.operands[static_cast<std::size_t>(root)].in;
               for (const Operand& to : meeting.operands) std::memmove(to.out, from, count * SizeOf(type));
             }));
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream, {.kind = Item::kSend, .what = "send", .operand = {data, nullptr}, .peer = peer, .bytes = count * SizeOf(type)});
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             {.kind = Item::kReceive, .what = "receive", .operand = {nullptr, data}, .peer = peer, .bytes = count * SizeOf(type)});
}

}  // extern "C"
