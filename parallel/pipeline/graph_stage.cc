#include "parallel/pipeline/graph_stage.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {

GraphStage::GraphStage(LayerStage& stage) : stage_(stage) {
  LYCIA_CHECK(!stage.communicates()) << "a stage with transfers cannot be captured ";
  entries_.reserve(kMostGraphs);
}

void GraphStage::Forward(StageContext& context, const StageSlots& slots, void* out) {
  Run({.call = Call::kForward, .slots = slots, .out = out}, context, [&] { stage_.Forward(context, slots, out); });
}

void GraphStage::Backward(StageContext& context, const StageSlots& slots, const void* dout, void* din) {
  Run({.call = Call::kBackward, .slots = slots, .in = dout, .out = din}, context, [&] { stage_.Backward(context, slots, dout, din); });
}

void GraphStage::BackwardInput(StageContext& context, const StageSlots& slots, const void* dout, void* din) {
  Run({.call = Call::kBackwardInput, .slots = slots, .in = dout, .out = din}, context,
      [&] { stage_.BackwardInput(context, slots, dout, din); });
}

void GraphStage::BackwardWeight(StageContext& context, const StageSlots& slots) {
  Run({.call = Call::kBackwardWeight, .slots = slots}, context, [&] { stage_.BackwardWeight(context, slots); });
}

void GraphStage::Run(const Arguments& given, StageContext& context, absl::FunctionRef<void()> call) {
  if (varies_ || !context.training || context.logits.data != nullptr || !HasGraphs(*context.stream) || !context.stream->ok()) {
    ++counts_.plain;
    return call();
  }
  Arguments arguments = given;
  arguments.sample_losses = context.sample_losses;
  arguments.sample_hits = context.sample_hits;
  if (stage_.reads_labels()) arguments.gradient_scale = context.gradient_scale;
  if (stage_.has_states()) arguments.samples = context.samples;  // whose observations are written
  if (now_++ == 0) marks_ = stage_.marks();
  const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) { return Matches(entry, arguments); });
  if (found != entries_.end()) {
    found->last_used = now_;
    if (on_) return CaptureAndLaunch(*found, context, call);
  }
  ++counts_.plain;
  if (found != entries_.end()) return call();
  Entry& entry = NewEntry();
  entry.arguments = arguments;
  entry.last_used = now_;
  for (std::size_t m = 0; m < marks_.size(); ++m) entry.fresh_before[m] = *marks_[m];
  context.step_was_read = false;
  call();
  for (std::size_t m = 0; m < marks_.size(); ++m) entry.fresh_after[m] = *marks_[m];
  varies_ = context.step_was_read;
}

void GraphStage::CaptureAndLaunch(Entry& entry, StageContext& context, absl::FunctionRef<void()> call) {
  Stream& stream = *context.stream;
  if (entry.graph == nullptr) {
    StatusOr<std::unique_ptr<Graph>> graph = CaptureGraph(stream, call);
    if (!graph.ok()) return stream.Fail(Annotate(graph.status(), "capturing a CUDA graph (parallel.cuda_graphs = \"off\" does without)"));
    entry.graph = *std::move(graph);
    ++counts_.captured;
  } else {
    ++counts_.replayed;
    for (std::size_t m = 0; m < marks_.size(); ++m) *marks_[m] = entry.fresh_after[m];
  }
  entry.graph->Launch(stream);
}

GraphStage::Entry& GraphStage::NewEntry() {
  if (entries_.size() < kMostGraphs) {
    Entry& entry = entries_.emplace_back();
    entry.fresh_before.resize(marks_.size());
    entry.fresh_after.resize(marks_.size());
    return entry;
  }
  Entry& oldest = *std::ranges::min_element(entries_, {}, &Entry::last_used);
  oldest.graph = nullptr;
  return oldest;
}

bool GraphStage::Matches(const Entry& entry, const Arguments& arguments) const {
  if (entry.arguments != arguments) return false;
  for (std::size_t m = 0; m < marks_.size(); ++m) {
    if (entry.fresh_before[m] != *marks_[m]) return false;
  }
  return true;
}

}  // namespace lycia
