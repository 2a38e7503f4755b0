// Layouts as processes: every layout that has this number of ranks equals the truth, and equals the run with threads bit for bit.
//
// One set of processes runs its layouts in a loop. Exit code 0, or 1 after the first failure, which names layout, rank and element.
#include <cstdio>
#include <string>
#include <vector>

#include "parallel/schedule/generators.h"
#include "runtime/comm/transports.h"
#include "tests/layouts/random_images.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

std::vector<Layout> LayoutsOn(int ranks) {
  std::vector<Layout> layouts;
  for (const int stages : {1, 2, 4, 6}) {
    for (const int data : {1, 2}) {
      if (stages * data != ranks) continue;
      for (const char* schedule : {"gpipe", "1f1b", "chimera"}) {
        if (stages == 1 && std::string(schedule) == "chimera") continue;
        for (const int micro_batches : {1, 2, 3, 4, 6, 8, 12}) {
          layouts.push_back({.schedule = schedule,
                             .stages = stages,
                             .data = data,
                             .micro_batches = micro_batches,
                             .samples = micro_batches <= 3 ? 2 : 1});
        }
      }
      if (stages == 4)
        layouts.push_back({.schedule = "chimera", .stages = 4, .data = data, .micro_batches = 6, .pipes = 4, .masked = true});
      layouts.push_back({.schedule = "1f1b", .stages = stages, .data = data, .micro_batches = 4, .tied = false, .precision = DType::kF32});
      // Every schedule on four workers; with replicas, each stage is stepped as soon as its sum is there.
      for (const schedule::Generator& generator : schedule::Generators()) {
        if (stages != 4) continue;
        std::vector<Layout> of_schedule = LayoutsOf(generator.name, stages);
        for (Layout& layout : of_schedule) {
          if (data > 1 && &layout != &of_schedule.back()) continue;
          layout.data = data;
          layout.clip = data == 1;
          layout.update = data == 1 ? schedule::UpdateMode::kDecided : schedule::UpdateMode::kEager;
          layouts.push_back(layout);
        }
      }
    }
  }
  for (const Layout& layout : GridLayouts()) {
    if (layout.ranks() == ranks) layouts.push_back(layout);
  }
  // Images: running statistics between processes.
  for (const Layout& layout :
       {Layout{.stages = 2, .micro_batches = 3, .samples = 2, .masked = true, .images = SmallCnn()},
        Layout{.data = 4, .micro_batches = 1, .samples = 4, .images = SmallCnn()},
        Layout{.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 4, .samples = 2, .images = SmallCnn()},
        Layout{.schedule = "chimera-zb", .stages = 4, .data = 2, .micro_batches = 4, .samples = 4, .images = SmallResNet()}}) {
    if (layout.ranks() == ranks) layouts.push_back(layout);
  }
  return layouts;
}

// Every number of a record in one fixed order, but for the gradients.
template <typename Use>
void ForEachNumber(Record& record, const Use& use) {
  use(record.evaluation);
  use(record.hits);
  for (StepRecord& step : record.steps) {
    use(step.loss);
    use(step.grad_norm);
    for (Tensors* tensors : {&step.weights, &step.states}) {
      for (auto& [name, values] : *tensors) {
        for (double& value : values) use(value);
      }
    }
  }
}

// Rank 0's run with threads, given to all. `like` has the same names and sizes.
StatusOr<Record> ThreadsOnRankZero(const Layout& layout, const Record& like, Communicator& world) {
  Record record = like;
  if (world.rank() == 0) {
    LYCIA_ASSIGN_OR_RETURN(record, RunOnThreads(layout));
  }
  std::vector<double> numbers;
  ForEachNumber(record, [&](double& number) { numbers.push_back(number); });
  const Tensor all{numbers.data(), DType::kF64, {static_cast<std::int64_t>(numbers.size())}};
  LYCIA_RETURN_IF_ERROR(world.Broadcast(all, /*root=*/0, Tag::kTest, {}).Wait());
  std::size_t next = 0;
  ForEachNumber(record, [&](double& number) { number = numbers[next++]; });
  return record;
}

Status Check(const Layout& layout, Communicator& world) {
  LYCIA_ASSIGN_OR_RETURN(const Record mine, RunRank(layout, world));
  const Record& truth = TruthOf(layout);
  if (layout.precision == DType::kF64) LYCIA_RETURN_IF_ERROR(CompareWithTruth(mine, truth));
  LYCIA_ASSIGN_OR_RETURN(const Record threads, ThreadsOnRankZero(layout, truth, world));
  return Annotate(CompareBitwise(mine, threads), "MPI against threads");
}

}  // namespace
}  // namespace lycia::layouts

int main() {
  lycia::StatusOr<std::unique_ptr<lycia::Communicator>> world = lycia::OpenMpiWorld();
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", world.status().ToString().c_str());
    return 1;
  }
  const int rank = (*world)->rank(), ranks = (*world)->size();
  const std::vector<lycia::layouts::Layout> layouts = lycia::layouts::LayoutsOn(ranks);
  if (layouts.empty()) {
    std::fprintf(stderr, "no layout has %d ranks\n", ranks);
    lycia::MpiAbort(1);
  }
  for (const lycia::layouts::Layout& layout : layouts) {
    const lycia::Status status = lycia::layouts::Check(layout, **world);
    if (status.ok()) continue;
    std::fprintf(stderr, "FAILED %s on rank %d of %d: %s\n", layout.Name().c_str(), rank, ranks, status.ToString().c_str());
    lycia::MpiAbort(1);
  }
  if (rank == 0) std::printf("%zu layouts passed on %d ranks\n", layouts.size(), ranks);
  return 0;
}
