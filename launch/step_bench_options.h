// The flags of `lycia bench step`: sizes with GPT-2 124M as default, and the keys of a training run.
#ifndef LYCIA_LAUNCH_STEP_BENCH_OPTIONS_H_
#define LYCIA_LAUNCH_STEP_BENCH_OPTIONS_H_

#include <string>

#include "launch/cli.h"
#include "launch/config.h"
#include "launch/step_bench.h"

namespace lycia {

struct StepBenchFlags {
  Config config;  // not resolved: the number of ranks is not known yet
  StepBenchOptions options;
  int ranks = 0;       // as threads; 0: not said
  std::string tokens;  // file; "": random
  bool json = false;
};

CommandSpec StepBenchSpec();
// InvalidArgument for a flag or key that does not make sense by itself, or that this bench has no use for.
StatusOr<StepBenchFlags> ReadStepBenchFlags(const Arguments& arguments);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_STEP_BENCH_OPTIONS_H_
