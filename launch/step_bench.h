// How fast a whole training step is on this machine: `lycia bench step`. The trainer is the one that trains.
#ifndef LYCIA_LAUNCH_STEP_BENCH_H_
#define LYCIA_LAUNCH_STEP_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launch/bench_tokens.h"
#include "launch/config.h"
#include "launch/session.h"
#include "runtime/core/status.h"

namespace lycia {

// What a rank spent a step on, by kind of instruction, in seconds of its clock; what is left of the step it waited for other ranks.
struct StepParts {
  double forward = 0, backward = 0, messages = 0, synchronize = 0, update = 0;
};

// One measurement.
struct StepSpeed {
  // What ran.
  std::int64_t layers = 0, heads = 0, hidden = 0, vocabulary = 0, sequence = 0, batch = 0, micro_batch = 0;
  std::int64_t parameters = 0;
  std::string precision, schedule;
  int ranks = 1, threads = 1;  // threads of rank 0
  std::string isa;             // "avx512_bf16": of the matrix products
  std::string vectors;         // "AVX-512": of the other kernels
  std::string graphs;          // CUDA graphs of rank 0 (GraphTrial::ToString); "": none can be
  // What it took.
  int warmup = 0;                  // steps before the measured ones
  std::vector<double> seconds;     // of each measured step, slowest rank
  std::vector<double> losses;      // of all steps, warm-up included
  StepParts parts;                 // of rank 0, mean of the measured steps
  double flops = 0;                // of a step: StepFlops
  double peak_gflops = 0;          // of all ranks' threads, on registers, as RegisterPeakGflops measures
  std::int64_t planned_bytes = 0;  // the arena of the largest rank
  std::int64_t peak_bytes = 0;     // most resident memory of the largest process during the steps; 0: this system does not tell

  double median_seconds() const;
  double best_seconds() const;
  double tokens_per_second() const { return static_cast<double>(batch * sequence) / median_seconds(); }
  double gflops() const { return flops / median_seconds() / 1e9; }
  double share_of_peak() const { return peak_gflops > 0 ? gflops() / peak_gflops : 0; }
};

// Six for every weight of a matrix (the head included, embeddings not) and token, and attention as if no mask were there: the count that
// others give too, whatever is skipped or computed twice.
double StepFlops(const ModelConfig& model, std::int64_t batch);

struct StepBenchOptions {
  std::int64_t steps = 8, warmup = 2;  // more of the latter where CUDA graphs are tried first (GraphTrial)
};

// Runs the steps; collective. `config` is resolved; init.from is read where given. The result is whole at rank 0 only.
// FailedPrecondition: a loss or a gradient norm that is not finite.
StatusOr<StepSpeed> MeasureSteps(const Config& config, const StepBenchOptions& options, const BenchTokens& tokens, Session& session);

std::string StepSpeedText(const StepSpeed& speed);
std::string StepSpeedJson(const StepSpeed& speed);  // one object

}  // namespace lycia

#endif  // LYCIA_LAUNCH_STEP_BENCH_H_
