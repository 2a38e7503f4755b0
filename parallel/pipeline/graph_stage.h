// GraphStage: a stage whose calls are replayed as graphs, where the device has them.
//
// A call of a stage enqueues a few hundred kernels; when the device is faster than the host, it waits for the host between them. A call
// with arguments that have come before is captured, and from then on enqueued as a whole, with the same bits. All that a captured call
// passes to its kernels is what the call before had, so a graph belongs to one set of arguments: slots, message buffers, what is fresh.
// What differs from step to step lies in device memory, or the call is never captured: with dropout, whose masks depend on the step.
#ifndef LYCIA_PARALLEL_PIPELINE_GRAPH_STAGE_H_
#define LYCIA_PARALLEL_PIPELINE_GRAPH_STAGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "parallel/pipeline/layer_stage.h"
#include "runtime/device/graph.h"

namespace lycia {

class GraphStage final : public Stage {
 public:
  // `stage` outlives this, is bound to its memory before the first call, and has no transfers: communication is not part of graphs.
  explicit GraphStage(LayerStage& stage);

  // Whether calls are replayed from now on, or enqueued one by one, which is how it begins. Either way calls are watched.
  void Replay(bool on) { on_ = on; }

  struct Counts {
    std::int64_t plain = 0, captured = 0, replayed = 0;  // calls
  };
  const Counts& counts() const { return counts_; }

  std::span<const TensorSpec> inputs() const override { return stage_.inputs(); }
  std::span<const TensorSpec> outputs() const override { return stage_.outputs(); }
  bool reads_labels() const override { return stage_.reads_labels(); }
  void* input(const StageSlots& slots) override { return stage_.input(slots); }
  void* labels(const StageSlots& slots) override { return stage_.labels(slots); }
  void TakeInput(Stream& stream, const StageSlots& slots, const void* message) override { stage_.TakeInput(stream, slots, message); }
  void Forward(StageContext& context, const StageSlots& slots, void* out) override;
  void Backward(StageContext& context, const StageSlots& slots, const void* dout, void* din) override;
  void BackwardInput(StageContext& context, const StageSlots& slots, const void* dout, void* din) override;
  void BackwardWeight(StageContext& context, const StageSlots& slots) override;

 private:
  enum class Call : std::uint8_t { kForward, kBackward, kBackwardInput, kBackwardWeight };
  // All that decides what a call enqueues.
  struct Arguments {
    Call call = Call::kForward;
    StageSlots slots;
    const void *in = nullptr, *out = nullptr;  // messages
    const double *sample_losses = nullptr, *sample_hits = nullptr;
    double gradient_scale = 0;
    SampleRange samples;
    bool operator==(const Arguments&) const = default;
  };
  struct Entry {
    Arguments arguments;
    std::vector<bool> fresh_before, fresh_after;  // [mark]
    std::unique_ptr<Graph> graph;                 // null until its arguments come again
    std::int64_t last_used = 0;
  };
  // Graphs kept at once; a rank's step has about two calls a micro-batch. The one unused for the longest time makes way.
  static constexpr std::size_t kMostGraphs = 128;

  void Run(const Arguments& arguments, StageContext& context, absl::FunctionRef<void()> call);
  void CaptureAndLaunch(Entry& entry, StageContext& context, absl::FunctionRef<void()> call);
  Entry& NewEntry();
  bool Matches(const Entry& entry, const Arguments& arguments) const;

  LayerStage& stage_;
  std::vector<bool*> marks_;  // LayerStage::marks, from the first call on
  bool on_ = false, varies_ = false;
  std::vector<Entry> entries_;
  std::int64_t now_ = 0;
  Counts counts_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_GRAPH_STAGE_H_
