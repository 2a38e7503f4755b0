// Chimera with backward halving (Li & Hoefler 2021, sec. 3.5): the order of forward doubling, with half micro-batches; a forward takes
// both halves at once, the backwards are single (B3/0, B3/1). No more memory than Chimera, and no bubbles between its units.
//
//   chimera-halving, 2 workers, 4 micro-batches, 2 pipes (up in small letters)
//   makespan 12, bubble 0.0 %, peak activations 2, 2 copies of the weights
//   worker 0 | F0   f1   b1/0 B0/0 b1/1 B0/1 F2   f3   b3/0 B2/0 b3/1 B2/1
//   worker 1 | f1   F0   B0/0 b1/0 B0/1 b1/1 f3   F2   B2/0 b3/0 B2/1 b3/1
//
//   chimera-halving, 4 workers, 2 micro-batches, 2 pipes (up in small letters)
//   makespan 9, bubble 33.3 %, peak activations 2, 2 copies of the weights
//   worker 0 | F0/0 F0/1 .    .    f1/0 f1/1 b1/0----- b1/1----- .    .    B0/0----- .    .    B0/1-----
//   worker 1 | .    F0/0 F0/1 f1/0 f1/1 .    .    .    b1/0----- B0/0----- b1/1----- B0/1----- .    .
//   worker 2 | .    f1/0 f1/1 F0/0 F0/1 .    .    .    B0/0----- b1/0----- B0/1----- b1/1----- .    .
//   worker 3 | f1/0 f1/1 .    .    F0/0 F0/1 B0/0----- B0/1----- .    .    b1/0----- .    .    b1/1-----
//
// It is chimera_doubling.cc's order for 2N half micro-batches, in which each pair of forwards becomes one of a whole micro-batch. Only the
// first micro-batches of each pipe keep forwards in halves (F0/0, F0/1), as few as do not make it slower: their first half travels at
// once, while nothing else is there to do. With F = 1, B = 2 it is floor(D/4) of each pipe.
//
// With K = N / D whole:  makespan (N + D/4 - 1/2)(F + B) for B from F to 5/2 F, if half a backward takes half the time.
// Peak activations       at most D.
// Both halves of a forward are under way at once: it needs two credits per channel.
#include <utility>
#include <vector>

#include "parallel/schedule/generators.h"
#include "parallel/schedule/order_search.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {
namespace {

// What half a micro-batch costs; messages take as long.
Costs Halved(Costs costs) {
  const auto halve = [](StageCosts& stage) {
    for (Fraction* cost : {&stage.forward, &stage.backward, &stage.input, &stage.weight}) cost->denominator *= 2;
  };
  halve(costs);
  for (StageCosts& stage : costs.stages) halve(stage);
  return costs;
}

// `halves`: micro-batches 2m and 2m + 1 are the halves of m. The first `leading` micro-batches of each pipe keep their forwards halved.
Schedule Joined(const Schedule& halves, const std::vector<int>& pipe_of_micro_batch, int leading) {
  Schedule joined = halves;
  joined.pipe_of_micro_batch = pipe_of_micro_batch;
  joined.shape.micro_batches = static_cast<int>(pipe_of_micro_batch.size());
  std::vector<int> place;  // [micro-batch] in its pipe
  std::vector<int> count(halves.shape.pipes, 0);
  for (const int pipe : pipe_of_micro_batch) place.push_back(count[pipe]++);
  for (auto& program : joined.program) {
    std::vector<Instruction> whole;
    for (Instruction instruction : program) {
      const bool join = instruction.op == Op::kForward && place[instruction.micro_batch / 2] >= leading;
      if (join && instruction.micro_batch % 2 == 1) continue;
      instruction.part = static_cast<std::uint8_t>(instruction.micro_batch % 2);
      instruction.parts = join ? 1 : 2;
      instruction.micro_batch /= 2;
      whole.push_back(instruction);
    }
    program = std::move(whole);
  }
  return joined;
}

}  // namespace

StatusOr<Schedule> ChimeraHalving(const GenerateOptions& options) {
  constexpr const char* kName = "chimera-halving";
  if (options.max_activations == 1) return InvalidArgument(kName, " keeps at least 2 activations on a worker, the limit is 1");
  GenerateOptions half_options = options;
  half_options.max_activations = 2 * options.max_activations;
  LYCIA_ASSIGN_OR_RETURN(OrderFamily family, DoublingFamily(kName, half_options));
  // A micro-batch of which one half is done still takes its whole place. Quotas of whole micro-batches see to that; a cap cannot.
  std::erase_if(family.bounds, [](const MemoryBound& bound) { return bound.worker_cap > 0; });
  const std::vector<int> pipe_of_micro_batch = family.empty.pipe_of_micro_batch;
  family.empty.shape.micro_batches *= 2;
  family.empty.pipe_of_micro_batch.clear();
  for (const int pipe : pipe_of_micro_batch) family.empty.pipe_of_micro_batch.insert(family.empty.pipe_of_micro_batch.end(), 2, pipe);
  LYCIA_ASSIGN_OR_RETURN(const FoundOrder halves, BestOrder(family, Halved(options.costs)));

  // The fewest leading micro-batches with which it takes no longer than if all forwards were halved.
  LYCIA_ASSIGN_OR_RETURN(const TickCosts ticks, ToTicks(options.costs, 4));
  const auto makespan = [&](int leading) -> StatusOr<std::int64_t> {
    LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(Joined(halves.schedule, pipe_of_micro_batch, leading), {.costs = ticks}));
    return timeline.makespan;
  };
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t best, makespan(options.micro_batches));
  int low = 0, high = options.micro_batches;
  while (low < high) {
    const int middle = (low + high) / 2;
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t time, makespan(middle));
    if (time <= best) high = middle;
    if (time > best) low = middle + 1;
  }
  return Joined(halves.schedule, pipe_of_micro_batch, high);
}

}  // namespace lycia::schedule
