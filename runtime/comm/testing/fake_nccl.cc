#include "runtime/comm/testing/fake_nccl.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

#include "runtime/comm/testing/fake_nccl_clique.h"
#include "runtime/core/check.h"
#include "runtime/core/status.h"

namespace {

using lycia::StrCat;
using lycia::fake_nccl::Check;
using lycia::fake_nccl::Clique;
using lycia::fake_nccl::Misused;
using lycia::fake_nccl::TheState;

ncclComm* NewComm(std::shared_ptr<Clique> clique, int rank, int world_rank, const ncclConfig_t* config) {
  auto* comm = new ncclComm;
  comm->clique = std::move(clique);
  comm->rank = rank;
  comm->world_rank = world_rank;
  comm->name = config->commName == nullptr ? "?" : config->commName;
  comm->thread = std::this_thread::get_id();
  ++TheState().alive;
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

}  // namespace

namespace lycia::fake_nccl {

std::vector<std::string> LaunchesOf(int world_rank) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  return TheState().launches[world_rank];
}
std::vector<std::string> SplitsOf(int world_rank) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  return TheState().splits[world_rank];
}
int Alive() {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  return TheState().alive;
}
int Aborted() {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  return TheState().aborted;
}
void Break(int world_rank, ncclResult_t result) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  TheState().broken[world_rank] = result;
}
void HoldLaunches(Held held) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  TheState().held = std::move(held);
}
void Reset() {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  State& state = TheState();
  LYCIA_CHECK_EQ(state.alive, 0);
  state.cliques.clear();
  state.launches.clear();
  state.splits.clear();
  state.broken.clear();
  state.held = nullptr;
  state.aborted = 0;
  state.misuse.clear();
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
  std::lock_guard<std::mutex> lock(TheState().mutex);
  return TheState().misuse.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device device;
  for (char& c : id->internal) c = static_cast<char>(device());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  if (config->blocking != 0) return Misused("a blocking communicator");
  std::shared_ptr<Clique>& clique = TheState().cliques[std::string(id.internal, sizeof id.internal)];
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
  std::lock_guard<std::mutex> lock(TheState().mutex);
  if (const ncclResult_t checked = Check(comm, /*split=*/true); checked != ncclSuccess) return checked;
  TheState().splits[comm->world_rank].push_back(StrCat(comm->name, " split color ", color, " key ", key));
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
  std::unique_lock<std::mutex> lock(TheState().mutex);
  *state = ncclSuccess;
  const auto& broken = TheState().broken;
  if (const auto found = broken.find(comm->world_rank); found != broken.end()) {
    *state = found->second;
    return ncclSuccess;
  }
  if (!TheState().misuse.empty()) {
    *state = ncclInvalidUsage;
    return ncclSuccess;
  }
  const bool late = ++comm->polls < 2;
  if (comm->starting) comm->starting = comm->clique->joined < comm->clique->size;
  if (comm->splitting && !late) FinishSplit(*comm);
  if (!comm->called.empty() && !late && lycia::fake_nccl::Connected(*comm)) lycia::fake_nccl::Launch(*comm, lock);
  if (comm->starting || comm->splitting || !comm->called.empty()) *state = ncclInProgress;
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  if (comm->launched != comm->finished) Misused(comm->name + " is destroyed while operations are open");
  *comm->aborted = true;
  delete comm;
  --TheState().alive;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  std::lock_guard<std::mutex> lock(TheState().mutex);
  *comm->aborted = true;
  comm->clique->dead = true;
  delete comm;
  --TheState().alive;
  ++TheState().aborted;
  return ncclSuccess;
}

}  // extern "C"
