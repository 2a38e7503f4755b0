// NCCL without GPUs, for tests of the transport over it: link fake_nccl*.cc, over fake_cuda.cc, instead of the real library. Ranks are
// threads.
//
// As unhelpful as NCCL may be: every call is only "in progress" at first and is put on its stream while the communicator is asked for news;
// a new connection between two ranks comes about only when both have called; operations of a communicator run one after the other,
// whatever their streams; sends and receives match in order and in size; a sum is made in another order than rank order. Misuse (a call on
// a communicator that is in progress, from a second thread, with memory that a device does not reach, a split with operations open, ranks
// that call differently) ends every rank with ncclInvalidUsage.
#ifndef LYCIA_RUNTIME_COMM_TESTING_FAKE_NCCL_H_
#define LYCIA_RUNTIME_COMM_TESTING_FAKE_NCCL_H_

#include <nccl.h>

#include <functional>
#include <string>
#include <vector>

namespace lycia::fake_nccl {

// What rank `world_rank` has put on its device, in order: "world.1 all-reduce", "world from 0 to 1 send".
std::vector<std::string> LaunchesOf(int world_rank);
// From now on no launch begins of which `held` answers true; it is asked again and again, under the locks of this file and of fake_cuda.h.
// `number`: the rank's launches of the same text before it. Null: none is held.
using Held = std::function<bool(int world_rank, const std::string& launch, int number)>;
void HoldLaunches(Held held);
// The splits that rank `world_rank` called, in order: "world split color 0 key 1".
std::vector<std::string> SplitsOf(int world_rank);
// Communicators that exist; how many were aborted.
int Alive();
int Aborted();
// All communicators of rank `world_rank` answer with this from now on.
void Break(int world_rank, ncclResult_t result);
// Forgets everything; no communicator may exist.
void Reset();

}  // namespace lycia::fake_nccl

#endif  // LYCIA_RUNTIME_COMM_TESTING_FAKE_NCCL_H_
