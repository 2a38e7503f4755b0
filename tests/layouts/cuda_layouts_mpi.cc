// Ranks as processes whose tensors lie on a GPU and travel by MPI through page-locked memory: the trainer, on CUDA's kernels run on the
// CPU, against the serial truth, and against ranks as threads bit for bit. Exit code 0, or 1 after the first failure.
#include <cstdio>
#include <string>
#include <vector>

#include "runtime/comm/transports.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

std::vector<Layout> Layouts(int ranks) {
  std::vector<Layout> layouts = {{.schedule = "chimera", .stages = 2, .micro_batches = 2, .samples = 1},
                                 {.schedule = "gpipe", .data = 2, .micro_batches = 1, .samples = 2, .precision = DType::kF32},
                                 {.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .samples = 1, .masked = true},
                                 {.schedule = "1f1b", .stages = 2, .micro_batches = 2, .samples = 2, .y = 2}};
  std::erase_if(layouts, [&](const Layout& layout) { return layout.ranks() != ranks; });
  for (Layout& layout : layouts) layout.device = DeviceKind::kCuda;
  return layouts;
}

// This process's part of the threads' run, which every rank makes for itself.
Status Check(const Layout& layout, Communicator& world) {
  LYCIA_ASSIGN_OR_RETURN(const Record mine, RunRank(layout, world));
  if (layout.precision == DType::kF64) LYCIA_RETURN_IF_ERROR(CompareWithTruth(mine, TruthOf(layout)));
  LYCIA_ASSIGN_OR_RETURN(const Record threads, RunOnThreads(layout));
  return Annotate(CompareBitwise(mine, threads), "MPI against threads");
}

}  // namespace
}  // namespace lycia::layouts

int main() {
  lycia::StatusOr<std::unique_ptr<lycia::Communicator>> world = lycia::OpenCudaMpiWorld(0);
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", world.status().ToString().c_str());
    return 1;
  }
  const int rank = (*world)->rank(), ranks = (*world)->size();
  const std::vector<lycia::layouts::Layout> layouts = lycia::layouts::Layouts(ranks);
  for (const lycia::layouts::Layout& layout : layouts) {
    const lycia::Status status = lycia::layouts::Check(layout, **world);
    if (status.ok()) continue;
    std::fprintf(stderr, "FAILED %s on rank %d of %d: %s\n", layout.Name().c_str(), rank, ranks, status.ToString().c_str());
    lycia::MpiAbort(1);
  }
  if (rank == 0) std::printf("%zu layouts passed on %d ranks\n", layouts.size(), ranks);
  return layouts.empty() ? 1 : 0;
}
