#include "parallel/pipeline/graph_trial.h"

#include "absl/strings/str_format.h"

namespace lycia {
namespace {

void Take(double seconds, int& steps, double& least) {
  least = steps == 0 || seconds < least ? seconds : least;
  ++steps;
}

}  // namespace

bool GraphTrial::UseGraphs() const { return choice_ == CudaGraphs::kOn || (!decided() && plain_steps_ == kMeasuredSteps); }

void GraphTrial::StepDone(double seconds, bool captured) {
  if (steps_++ == 0 || decided()) return;
  if (!UseGraphs()) return Take(seconds, plain_steps_, plain_seconds_);
  if (!captured) {
    Take(seconds, graph_steps_, graph_seconds_);
  } else if (++captures_ == kMostCaptures) {
    choice_ = CudaGraphs::kOff;
  }
  if (graph_steps_ == kMeasuredSteps) choice_ = graph_seconds_ < plain_seconds_ ? CudaGraphs::kOn : CudaGraphs::kOff;
}

std::string GraphTrial::ToString() const {
  if (!decided()) return "not decided";
  const bool on = choice_ == CudaGraphs::kOn;
  if (captures_ == kMostCaptures) return "off: calls kept changing";
  if (graph_steps_ == 0) return on ? "on" : "off";
  return absl::StrFormat("%s: %.2f ms a step, %.2f without", on ? "on" : "off, with them", 1e3 * graph_seconds_, 1e3 * plain_seconds_);
}

}  // namespace lycia
