// LayerStage: a stage made of layers, with its memory counted before it is allocated.
#ifndef LYCIA_PARALLEL_PIPELINE_LAYER_STAGE_H_
#define LYCIA_PARALLEL_PIPELINE_LAYER_STAGE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/pipeline/stage.h"

namespace lycia {

// What is kept between forward and backward, and what is computed again.
//   kNone    everything the layers keep
//   kLayers  the input of every layer; each layer's forward runs again just before its backward
//   kStage   the input of the stage; the whole forward runs again before the backward
enum class Recompute : std::uint8_t { kNone, kLayers, kStage };

class LayerStage final : public Stage {
 public:
  struct Options {
    DType compute = DType::kF32;
    Recompute recompute = Recompute::kNone;
    bool split_backward = false;  // handoffs live in the stash slot instead of transient memory
  };
  // Plans every layer. The errors are those of Layer::Plan, with the layer's name.
  static StatusOr<std::unique_ptr<LayerStage>> Create(std::vector<std::unique_ptr<Layer>> layers, std::vector<TensorSpec> inputs,
                                                      const Options& options);

  std::span<const TensorSpec> inputs() const override { return edges_.front(); }
  std::span<const TensorSpec> outputs() const override { return edges_.back(); }
  bool reads_labels() const override { return labels_.shape.rank() > 0; }
  const std::vector<LayerPlan>& plans() const { return plans_; }
  std::vector<ParameterSpec> parameters() const;  // of all layers, in order; a name may come twice with different uses
  double forward_flops() const;

  std::int64_t stash_bytes() const { return stash_bytes_; }          // one slot
  std::int64_t transient_bytes() const { return transient_bytes_; }  // shared with other stages of the worker

  // Once, before the first call. Memory as counted above; weight and gradient look a parameter up by name (and use).
  struct Memory {
    std::vector<void*> stash;  // one pointer a slot
    void* transient = nullptr;
    std::function<Tensor(const std::string& name)> weight;
    std::function<Tensor(const std::string& name, int use)> gradient;
  };
  void Bind(const Memory& memory);

  void* input(int slot) override { return At(slots_[static_cast<std::size_t>(slot)], input_offset_); }
  void* labels(int slot) override { return At(slots_[static_cast<std::size_t>(slot)], labels_offset_); }
  void Forward(StageContext& context, int slot, void* out) override;
  void Backward(StageContext& context, int slot, const void* dout, void* din) override;
  void BackwardInput(StageContext& context, int slot, const void* dout, void* din) override;
  void BackwardWeight(StageContext& context, int slot) override;

 private:
  // Where a tensor list lives: in the stash slot or in transient memory.
  struct Place {
    bool transient = false;
    std::int64_t offset = 0;
  };
  // Everything of one layer, bound for one slot.
  struct Binding {
    std::vector<Tensor> in, out, dout, din, parameters, gradients, kept, handoffs, scratch;
    Tensor labels;
  };

  explicit LayerStage(const Options& options) : options_(options) {}
  void LayOut();
  LayerContext Context(StageContext& context, int slot, std::size_t layer);
  void RunForward(StageContext& context, int slot, std::size_t layer);
  void BackwardLayers(StageContext& context, int slot, const void* dout, void* din, bool input, bool weight);
  static void* At(void* base, std::int64_t offset) { return base == nullptr ? nullptr : static_cast<char*>(base) + offset; }

  Options options_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<LayerPlan> plans_;
  std::vector<std::vector<TensorSpec>> edges_;  // edges_[i] is the input of layer i, edges_[L] the output of the stage
  TensorSpec labels_;

  std::int64_t input_offset_ = 0, labels_offset_ = 0, stash_bytes_ = 0, transient_bytes_ = 0;
  std::vector<Place> edge_place_, kept_place_, handoff_place_, scratch_place_, gradient_place_;  // by layer or edge

  std::vector<void*> slots_;
  void* transient_ = nullptr;
  std::vector<std::vector<Binding>> bindings_;  // [slot][layer]
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_LAYER_STAGE_H_
