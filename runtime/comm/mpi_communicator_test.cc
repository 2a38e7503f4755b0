// The conformance suite over MPI: all cases in one set of processes. Exit code 0, or 1 after the first failure.
//
// With --abort instead: the last rank gives up while the others wait for it; the launcher must end them all, with exit code 7.
#include <cstdio>
#include <cstring>

#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/transports.h"

namespace {

int GiveUp(lycia::Communicator& world) {
  if (world.rank() == world.size() - 1) {
    const lycia::Status why = absl::InternalError("told to give up");
    world.Abort(why);
    if (world.Barrier().message() != why.message()) return 0;  // the test wants 7
    lycia::MpiAbort(7);
  }
  (void)world.Barrier();  // never ends
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
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

  int passed = 0;
  for (const lycia::ConformanceCase& test : lycia::AllConformanceCases()) {
    const lycia::Status status = test.run(world);
    if (!status.ok()) {
      std::fprintf(stderr, "FAILED %s on rank %d of %d: %s\n", std::string(test.name).c_str(), world.rank(), world.size(),
                   status.ToString().c_str());
      lycia::MpiAbort(1);
    }
    ++passed;
  }
  if (world.rank() == 0) std::printf("%d passed on %d ranks, %s\n", passed, world.size(), lycia::MpiDescription().c_str());
  return 0;
}
