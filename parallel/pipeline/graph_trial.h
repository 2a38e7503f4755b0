// GraphTrial: whether a rank's steps are replayed as graphs. Automatically: the first steps measure both, and the faster way stays. Both
// give the same bits, so that ranks need not agree.
#ifndef LYCIA_PARALLEL_PIPELINE_GRAPH_TRIAL_H_
#define LYCIA_PARALLEL_PIPELINE_GRAPH_TRIAL_H_

#include <cstdint>
#include <string>

namespace lycia {

enum class CudaGraphs : std::uint8_t { kAuto, kOn, kOff };

// Asked and told once a step. All ranks of a run try the same way in the same step, as a step takes as long as its slowest rank.
class GraphTrial {
 public:
  // Of a way; the first step of all, which sets things up, is not counted.
  static constexpr int kMeasuredSteps = 3;
  // Steps that may go by with captures in them: arguments that keep changing are not worth it.
  static constexpr int kMostCaptures = 2 * kMeasuredSteps;
  // Steps after which it has decided, whatever they were like.
  static constexpr int kMostSteps = 1 + 2 * kMeasuredSteps + kMostCaptures;

  explicit GraphTrial(CudaGraphs choice) : choice_(choice) {}

  bool UseGraphs() const;  // in the next step
  // captured: calls were captured in the step, which takes its time.
  void StepDone(double seconds, bool captured);

  bool decided() const { return choice_ != CudaGraphs::kAuto; }
  // "on: 11.2 ms a step, 12.9 without"; of a choice that was given, "on" or "off".
  std::string ToString() const;

 private:
  CudaGraphs choice_;
  std::int64_t steps_ = 0;
  int plain_steps_ = 0, graph_steps_ = 0, captures_ = 0;
  double plain_seconds_ = 0, graph_seconds_ = 0;  // the least of a step; 0: not measured
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_GRAPH_TRIAL_H_
