// What a run tells while it runs: a progress line for people and metrics.jsonl for programs.
// Neither allocates after it was opened.
#ifndef LYCIA_LAUNCH_PROGRESS_H_
#define LYCIA_LAUNCH_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string>

#include "runtime/core/status.h"

namespace lycia {

struct StepMetrics {
  std::int64_t step = 0;  // from 1
  double loss = 0;        // nats per label, of the step's global batch
  double lr = 0;
  double grad_norm = 0;         // before clipping
  const char* unit = "tokens";  // or images: what count counts
  std::int64_t count = 0;       // since the run's first step, resumed ones included
  double per_second = 0;
  double step_seconds = 0;
  double mfu_or_peak_share = 0;    // achieved FLOP/s over the peak of the cores in use; NaN (written as null): not known
  double loss_scale = 0;           // that the step was made with; 0: none, nor shown
  std::int64_t skipped_steps = 0;  // so far, this one included: their updates were left out
};

struct EvaluationMetrics {
  std::int64_t step = 0;
  double loss = 0;  // nats per label
  double accuracy = 0;
  const char* unit = "tokens";
  std::int64_t count = 0;  // labels
};

// A step of an emulated device. excess: of the measured makespan over the simulated one.
struct EmulatedStepMetrics {
  std::int64_t step = 0;  // from 1
  double makespan_ms = 0;
  double simulated_ms = 0;
  double excess = 0;
  double bubble = 0;  // share of all workers' time without compute
};

// What computation reuse did in one layer in a step.
struct ReuseMetrics {
  const char* layer = "";
  const char* use = "dense";    // or measure, reuse
  // Distinct rows of all rows, and the error of the rows; null in the file where the step did not look at them.
  std::optional<double> unique_ratio, relative_error;
  double width = 0;             // of clusters
  double predicted_saving = 0;  // share of the dense time of the layer's products
};

// metrics.jsonl: one JSON object a line, written at once with write(2), so that a killed run loses no whole line.
class MetricsWriter {
 public:
  MetricsWriter() = default;  // writes nowhere
  // Opens for append. A run that continues after `resumed_step` drops the lines of later steps and a torn last line; resumed_step = 0
  // starts an empty file. evaluates_again: the evaluation after that step will be written once more, so its line is dropped too.
  static StatusOr<MetricsWriter> Open(const std::string& path, std::int64_t resumed_step, bool evaluates_again = false);
  MetricsWriter(MetricsWriter&& other) noexcept;
  MetricsWriter& operator=(MetricsWriter&& other) noexcept;
  ~MetricsWriter();

  // {"step":1,"loss":..,"lr":..,"grad_norm":..,"tokens":..,"tokens_per_second":..,"step_seconds":..,"mfu_or_peak_share":..}, with the
  // unit's name for "tokens"; in f16 also "loss_scale":..,"skipped_steps":..
  Status Write(const StepMetrics& metrics);
  // {"step":100,"held_out_loss":..,"held_out_accuracy":..,"held_out_tokens":..}, likewise
  Status WriteEvaluation(const EvaluationMetrics& metrics);
  // {"step":1,"reuse":[{"layer":"h.0.attn","use":"reuse","unique_ratio":..,"relative_error":..,"width":..,"predicted_saving":..},..]}
  Status WriteReuse(std::int64_t step, std::span<const ReuseMetrics> layers);
  // {"step":1,"emulated_makespan_ms":..,"simulated_makespan_ms":..,"excess":..,"bubble":..}
  Status WriteEmulated(const EmulatedStepMetrics& metrics);

 private:
  Status WriteLine(const char* line, int bytes);
  int file_ = -1;
  std::string buffer_;
};

// On a terminal one line that is redrawn; otherwise a plain line every `every` steps and at the last one.
class ProgressLine {
 public:
  struct Options {
    std::int64_t steps = 1;  // of the whole run
    std::int64_t every = 10;
    std::FILE* out = stderr;
    int terminal = -1;  // 1 or 0: is it a terminal; -1: ask isatty
  };
  explicit ProgressLine(const Options& options);

  // step 120/600  loss 2.3145  1.24k tokens/s  ETA 00:42, in f16 "scale 65536" behind the loss. The rate is a moving average, so that one
  // slow step does not shake the ETA.
  void Step(const StepMetrics& metrics);
  // step 3/10  emulated 693.214 ms  simulated 690.000 ms (+0.47 %)  bubble 30.8 %
  void EmulatedStep(const EmulatedStepMetrics& metrics);
  // A line of its own above the progress line.
  void Message(const std::string& text);
  // Ends a redrawn line; the next output starts on a fresh one.
  void Finish();

 private:
  Options options_;
  bool terminal_ = false;
  bool open_ = false;          // a redrawn line stands without its newline
  double seconds_a_step_ = 0;  // moving averages; 0: no step yet
  double per_second_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_PROGRESS_H_
