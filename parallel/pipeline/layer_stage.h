// LayerStage: a stage made of layers, with its memory counted before it is allocated.
#ifndef LYCIA_PARALLEL_PIPELINE_LAYER_STAGE_H_
#define LYCIA_PARALLEL_PIPELINE_LAYER_STAGE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/pipeline/stage.h"
#include "parallel/pipeline/stage_binding.h"
#include "parallel/pipeline/stage_layout.h"
#include "parallel/pipeline/stage_packs.h"

namespace lycia {

class LayerStage final : public Stage {
 public:
  struct Options {
    DType compute = DType::kF32;
    DeviceKind device = DeviceKind::kCpu;  // whose kernels read packed weights
    Recompute recompute = Recompute::kNone;
    bool full_backward = true;  // which calls the stage must be ready for
    bool split_backward = false;
    bool packed_weights = false;   // the stage holds what LayerPlan::Packed declares, where the device's kernels read it
    std::vector<int> parts = {1};  // numbers of parts that calls divide a micro-batch into; they divide its samples
  };
  // Plans every layer. The errors are those of Layer::Plan, with the layer's name.
  static StatusOr<std::unique_ptr<LayerStage>> Create(std::vector<std::unique_ptr<Layer>> layers, std::vector<TensorSpec> inputs,
                                                      const Options& options);

  std::span<const TensorSpec> inputs() const override { return edges_.front(); }
  std::span<const TensorSpec> outputs() const override { return edges_.back(); }
  bool reads_labels() const override { return labels_.shape.rank() > 0; }
  const std::vector<LayerPlan>& plans() const { return plans_; }
  std::vector<ParameterSpec> parameters() const;  // of all layers, in order; a name may come twice with different uses
  std::vector<StateSpec> states() const;
  std::vector<ReuseSpec> reuses() const;
  double forward_flops() const;
  double input_flops() const;
  double weight_flops() const;

  // Of one slot of a kind (parallel/schedule/slots.h), or of the transient memory, shared with other stages of the worker.
  std::int64_t bytes(Area area) const { return layout_.bytes_of(area); }

  // Of packed weights; 0 without them.
  std::int64_t packed_bytes() const;

  // Of the transient memory: places of transfers under way.
  std::int64_t transfer_bytes() const { return layout_.transfers.bytes; }

  // Once, before the first call. Memory as counted above; weight and gradient look a parameter up by name (and use).
  struct Memory {
    std::vector<void*> stash, input, handoff;  // one pointer a slot
    void* transient = nullptr;
    std::function<Tensor(const std::string& name)> weight;
    std::function<Tensor(const std::string& name, int use)> gradient;
    // Whether the gradient means zero (layer.h); absent, or null: never.
    std::function<bool*(const std::string& name, int use)> fresh;
    void* packed = nullptr;
    // States by name, and the observations of the whole global batch [samples / spec.samples, ...]; absent: only calls that need none.
    std::function<Tensor(const std::string&name)> state, observations;
    std::function<const ReuseSlot*(const std::string& name)> reuse;  // absent: all dense
  };
  void Bind(const Memory& memory);
  const Memory& memory() const { return memory_; }

  // The next call packs the weights again. Before the first call, and whenever they may have changed.
  void WeightsChanged() { packs_.MarkStale(); }

  // The marks of gradients that mean zero (Memory::fresh), of this stage. A call reads and clears some of them.
  std::vector<bool*> marks() const;
  bool communicates() const;  // calls have transfers
  bool has_states() const;

  // Layer::MergeStates of all layers that have states.
  void MergeStates(StageContext& context);

  void* input(const StageSlots& slots) override;
  void* labels(const StageSlots& slots) override;
  void TakeInput(Stream& stream, const StageSlots& slots, const void* message) override;
  void Forward(StageContext& context, const StageSlots& slots, void* out) override;
  void Backward(StageContext& context, const StageSlots& slots, const void* dout, void* din) override;
  void BackwardInput(StageContext& context, const StageSlots& slots, const void* dout, void* din) override;
  void BackwardWeight(StageContext& context, const StageSlots& slots) override;

 private:
  // The bindings of all layers, in the shapes of one number of parts.
  struct Variant {
    int parts = 1;
    std::vector<LayerBinding> layers;
  };

  explicit LayerStage(const Options& options) : options_(options) {}
  // Points every tensor of the variant at the memory of the slots.
  Variant& Point(const StageSlots& slots, const StageLayout::Places& places);
  char* Base(const StageSlots& slots, Area area) const;
  // Makes the contexts of all layers and starts the call's transfers.
  void Begin(StageContext& context, const Variant& variant, std::span<const TransferStep> steps);
  // One layer's call, whose time is measured where reuse is to be weighed against it.
  template <typename Call>
  void Run(std::size_t layer, const Call& call);
  // A layer's forward in a backward.
  void ForwardAgain(std::size_t layer);
  void BackwardLayers(StageContext& context, Variant& variant, const void* dout, void* din, bool weight);

  Options options_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<LayerPlan> plans_;
  std::vector<std::vector<TensorSpec>> edges_;  // edges_[i] is the input of layer i, edges_[L] the output of the stage
  TensorSpec labels_;

  StageLayout layout_;
  Memory memory_;
  std::vector<std::vector<Tensor>> parameters_, gradients_;  // [layer]
  std::vector<std::vector<bool*>> fresh_;                    // [layer][parameter]
  StagePacks packs_;
  std::vector<std::vector<const ReuseSlot*>> reuses_;       // [layer]
  std::vector<std::vector<Tensor>> states_, observations_;  // [layer]; observations of the whole global batch
  std::vector<Variant> variants_;
  // Of the call under way.
  std::vector<LayerContext> contexts_;         // [layer]
  std::vector<std::vector<Tensor>> observed_;  // [layer], of the samples at hand
  Transfers transfers_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_LAYER_STAGE_H_
