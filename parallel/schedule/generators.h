// The table of schedules. A generator is a pure function that writes the compute instructions only; passes.h completes them.
//
// A new schedule is one file and one line in the table of generators.cc; property tests, drawing and simulation pick it up.
#ifndef LYCIA_PARALLEL_SCHEDULE_GENERATORS_H_
#define LYCIA_PARALLEL_SCHEDULE_GENERATORS_H_

#include <string>
#include <string_view>
#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/placement.h"
#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

struct GenerateOptions {
  int workers = 1;          // D: workers, and stages of each copy of the model
  int micro_batches = 1;    // N >= 1, over all pipes
  int pipes = 0;            // copies of the model; 0 = what the schedule prefers
  int chunks = 0;           // stages per worker and pipe (interleaved: v); 0 = what the schedule prefers
  Costs costs;              // for schedules that are planned by cost; fixed orders ignore them
  int max_activations = 0;  // for those too, and zb-h2: most stages' activations that a worker may keep; 0 = the schedule's own bound
};

struct Generator {
  const char* name;         // as in the field, in lower case
  const char* summary;      // one line for --help
  const char* constraints;  // what D, N and pipes may be
  StatusOr<Schedule> (*generate)(const GenerateOptions&);
  int chunks = 1;        // stages per worker and pipe where the options leave them open
  int instructions = 2;  // at most, of a stage and micro-batch: 2 = F B; 3 = F I W
};

// All schedules, in the order of --help.
const std::vector<Generator>& Generators();

// The schedule of that name. Errors (InvalidArgument): unknown name, with the nearest known ones; sizes that the schedule cannot take,
// with those that it can.
StatusOr<Schedule> Generate(std::string_view name, const GenerateOptions& options);

StatusOr<Schedule> GPipe(const GenerateOptions& options);              // gpipe.cc
StatusOr<Schedule> OneFOneB(const GenerateOptions& options);           // one_f_one_b.cc
StatusOr<Schedule> Interleaved(const GenerateOptions& options);        // interleaved.cc
StatusOr<Schedule> Gems(const GenerateOptions& options);               // gems.cc
StatusOr<Schedule> Chimera(const GenerateOptions& options);            // chimera.cc
StatusOr<Schedule> ZbH1(const GenerateOptions& options);               // zb_h1.cc
StatusOr<Schedule> ZbH2(const GenerateOptions& options);               // zb_h2.cc
StatusOr<Schedule> ZbV(const GenerateOptions& options);                // zb_v.cc
StatusOr<Schedule> DualPipe(const GenerateOptions& options);           // dualpipe.cc
StatusOr<Schedule> DualPipeV(const GenerateOptions& options);          // dualpipev.cc
StatusOr<Schedule> ChimeraContinuous(const GenerateOptions& options);  // chimera_continuous.cc
StatusOr<Schedule> ChimeraDoubling(const GenerateOptions& options);    // chimera_doubling.cc
StatusOr<Schedule> ChimeraHalving(const GenerateOptions& options);     // chimera_halving.cc
StatusOr<Schedule> Auto(const GenerateOptions& options);               // plan.cc
StatusOr<Schedule> VHalf(const GenerateOptions& options);              // v_half.cc
StatusOr<Schedule> ChimeraZb(const GenerateOptions& options);          // chimera_zb.cc

// Forward passes of `micro_batches` on the placement of another schedule, all its pipes used: evaluation without moving a weight.
// forward_only.cc; micro_batches >= 1.
Schedule ForwardOnly(const Schedule& like, int micro_batches);

// --- for generators ---

// Sizes that a program can hold, for a scheme with so many chunks (where the options leave them open) and instructions of a stage and
// micro-batch. Generate has checked them.
struct SchemeSizes {
  int chunks = 1, instructions = 2;
};
Status CheckSizes(std::string_view name, const GenerateOptions& options, const SchemeSizes& scheme);

// Stages per worker and pipe, and pipes, of a scheme in which they are fixed. Fails where the options ask for others.
struct FixedPlacement {
  int pipes = 1;  // 0 = any
  int chunks = 1;
};
Status CheckFixed(std::string_view name, const GenerateOptions& options, const FixedPlacement& fixed = {});

Instruction Compute(Op op, int pipe, int stage, int micro_batch);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_GENERATORS_H_
