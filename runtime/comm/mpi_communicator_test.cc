// The conformance suite over MPI: all cases in one set of processes. Exit code 0, or 1 after the first failure.
//
// With --apart the upper half of the ranks refuses shared memory, as ranks of another host cannot have it: groups with one of them go by
// messages, groups without do not.
//
// With --abort instead: the last rank gives up while the others wait for it; the launcher must end them all, with exit code 7.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/transports.h"

namespace {

int GiveUp(lycia::Communicator& world) {
  if (world.rank() == world.size() - 1) {
    const lycia::Status why = absl::InternalError("told to give up");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the others are in the barrier by now: it must fail all the same
    world.Abort(why);
    if (world.Barrier().message() != why.message()) return 0;  // the test wants 7
    lycia::MpiAbort(7);
  }
  (void)world.Barrier();  // never ends
  return 0;
}

// This process has memory for sums mapped.
bool SharesMemory() {
  std::ifstream maps("/proc/self/maps");
  return std::string(std::istreambuf_iterator<char>(maps), {}).find("lycia-sum-") != std::string::npos;
}

int RunCases(lycia::Communicator& group) {
  int passed = 0;
  for (const lycia::ConformanceCase& test : lycia::AllConformanceCases()) {
    const lycia::Status status = test.run(group);
    if (!status.ok()) {
      std::fprintf(stderr, "FAILED %s on rank %d of %d: %s\n", std::string(test.name).c_str(), group.rank(), group.size(),
                   status.ToString().c_str());
      lycia::MpiAbort(1);
    }
    ++passed;
  }
  return passed;
}

void Require(bool condition, int rank, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED on rank %d: %s\n", rank, what);
  lycia::MpiAbort(1);
}

}  // namespace

int main(int argc, char** argv) {
  const bool apart = argc > 1 && std::strcmp(argv[1], "--apart") == 0;
  if (apart && lycia::LauncherRank() >= std::atoi(argv[2])) ::setenv("LYCIA_SHARED_MEMORY", "off", 1);
  lycia::StatusOr<std::unique_ptr<lycia::Communicator>> opened = lycia::OpenMpiWorld();
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
    return 1;
  }
  lycia::Communicator& world = **opened;
  if (!lycia::StartedByMpi() || lycia::OpenMpiWorld().ok()) {
    std::fprintf(stderr, "rank %d: StartedByMpi() is false, or MPI was opened twice\n", world.rank());
    lycia::MpiAbort(1);
  }
  if (argc > 1 && std::strcmp(argv[1], "--abort") == 0) return GiveUp(world);

  Require(SharesMemory() == (world.size() > 1 && !apart), world.rank(), "sums of the world are in shared memory although they should not, or not");
  const int passed = RunCases(world);
  if (apart) {
    std::vector<int> host;
    for (int r = 0; r < world.size(); ++r) host.push_back(r < std::atoi(argv[2]) ? 0 : 1);
    lycia::StatusOr<std::unique_ptr<lycia::Communicator>> group = world.Split(host);
    Require(group.ok() && SharesMemory() == (host[static_cast<std::size_t>(world.rank())] == 0), world.rank(),
            "sums of a host's group are in shared memory although they should not, or not");
    RunCases(**group);
  }
  if (world.rank() == 0) std::printf("%d passed on %d ranks, %s\n", passed, world.size(), lycia::MpiDescription().c_str());
  return 0;
}
