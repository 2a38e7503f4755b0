// The conformance suite over MPI between processes whose operands lie on a (fake) device. Exit code 0, or 1 after the first failure.
#include <cstdio>
#include <string>

#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/testing/pinned_operands_cuda.h"
#include "runtime/comm/transports.h"

int main() {
  const lycia::DeviceOperands on_the_device;
  lycia::StatusOr<std::unique_ptr<lycia::Communicator>> world = lycia::OpenCudaMpiWorld(0);
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", world.status().ToString().c_str());
    return 1;
  }
  int passed = 0;
  for (const lycia::ConformanceCase& test : lycia::AllConformanceCases()) {
    const lycia::Status status = test.run(**world);
    if (!status.ok()) {
      std::fprintf(stderr, "FAILED %s on rank %d: %s\n", std::string(test.name).c_str(), (*world)->rank(), status.ToString().c_str());
      lycia::MpiAbort(1);
    }
    ++passed;
  }
  if ((*world)->rank() == 0) std::printf("%d passed on %d ranks\n", passed, (*world)->size());
  return 0;
}
