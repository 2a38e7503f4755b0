// What the files of the fake NCCL share: communicators, and what their ranks have put on the device. Only for fake_nccl*.cc.
#ifndef LYCIA_RUNTIME_COMM_TESTING_FAKE_NCCL_CLIQUE_H_
#define LYCIA_RUNTIME_COMM_TESTING_FAKE_NCCL_CLIQUE_H_

#include <nccl.h>

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/comm/testing/fake_nccl.h"

namespace lycia::fake_nccl {

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
  bool dead = false;                          // a member was aborted: nothing moves any more
  std::map<std::uint64_t, Meeting> meetings;  // by place in the order of collectives
  std::map<std::pair<int, int>, Pair> pairs;  // by (from, to)
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
  std::vector<std::pair<std::string, int>> launches;  // of the items: text, and how many like it were before; empty once it has begun
};

}  // namespace lycia::fake_nccl

struct ncclComm {
  std::shared_ptr<lycia::fake_nccl::Clique> clique;
  int rank = 0, world_rank = 0;
  std::string name;
  std::thread::id thread;
  std::vector<lycia::fake_nccl::Operation> called;  // in progress: not yet on the stream
  int polls = 0;                                    // asked since
  bool starting = true;                             // the clique is not complete
  bool splitting = false;
  std::uint64_t split_place = 0;
  ncclComm** child = nullptr;  // of the split under way
  int child_color = 0, child_key = 0;
  std::string child_name;
  std::uint64_t collectives = 0, splits = 0, launched = 0, finished = 0;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
};

namespace lycia::fake_nccl {

// All of this process, guarded by the mutex.
struct State {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Clique>> cliques;    // by unique id
  std::map<int, std::vector<std::string>> launches, splits;  // by world rank
  std::map<int, ncclResult_t> broken;
  Held held;
  int alive = 0, aborted = 0;
  std::string misuse;
};
State& TheState();

// Notes the first misuse, which ends every rank. Under the lock.
ncclResult_t Misused(const std::string& what);
// Whether a call on the communicator is permitted now. Under the lock.
ncclResult_t Check(ncclComm_t comm, bool split = false);
// Both ranks of every message of what was called have called at least once. Under the lock.
bool Connected(ncclComm& comm);
// Puts what was called on its streams; under the lock, which is given up for it.
void Launch(ncclComm& comm, std::unique_lock<std::mutex>& lock);

}  // namespace lycia::fake_nccl

#endif  // LYCIA_RUNTIME_COMM_TESTING_FAKE_NCCL_CLIQUE_H_
