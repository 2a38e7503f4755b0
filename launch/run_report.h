// What rank 0 tells and writes at the start and at the end of a run.
#ifndef LYCIA_LAUNCH_RUN_REPORT_H_
#define LYCIA_LAUNCH_RUN_REPORT_H_

#include <optional>
#include <span>
#include <string>

#include "launch/config.h"
#include "launch/progress.h"
#include "launch/trainer.h"
#include "launch/training_data.h"
#include "runtime/trace/spans.h"

namespace lycia {

// Model, layout, memory plan: a few lines on stderr.
void PrintRunHeader(const Config& config, const Trainer& trainer, int ranks, std::int64_t staging_bytes, std::int64_t step);

struct ReportArgs {
  const Config& config;
  const TrainingData& data;
  const Trainer& trainer;
  std::span<const RankSpans> spans;  // of all ranks, empty without a traced step
  std::string checkpoints;           // folder
  std::int64_t step = 0;
  double training_loss = 0;  // NaN: not measured
  std::optional<EvaluationMetrics> held_out;
};

// Exports model.safetensors, writes trace.json and step.svg, samples a text, measures what a count model
// or the commonest class would reach, and prints it all.
Status WriteReport(const ReportArgs& args);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_RUN_REPORT_H_
