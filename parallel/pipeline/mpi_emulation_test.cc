// Emulated devices on processes: the logical clock against the simulator, every schedule in one set of ranks.
#include <cstdio>
#include <memory>

#include "parallel/pipeline/emulation_check_for_test.h"
#include "runtime/comm/transports.h"

int main() {
  lycia::StatusOr<std::unique_ptr<lycia::Communicator>> world = lycia::OpenMpiWorld();
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", world.status().ToString().c_str());
    return 1;
  }
  const int ranks = (*world)->size();
  const auto cases = lycia::EmulationCases(ranks, {ranks, 2 * ranks});
  lycia::Status status = cases.status();
  for (std::size_t i = 0; status.ok() && i < cases->size(); ++i) status = lycia::CheckCase((*cases)[i], **world);
  if (!status.ok() || cases->size() < 24) {  // gpipe, 1f1b and chimera take any of these sizes
    std::fprintf(stderr, "rank %d: %s\n", (*world)->rank(), status.ToString().c_str());
    lycia::MpiAbort(1);
  }
  if ((*world)->rank() == 0) std::printf("%d passed on %d ranks\n", static_cast<int>(cases->size()), ranks);
  return 0;
}
