// GridLocalLayer: a layer of single samples and channels, without parameters, on a tensor grid: it runs on a rank's part as it is.
#ifndef LYCIA_MODELS_LAYERS_GRID_LOCAL_LAYER_H_
#define LYCIA_MODELS_LAYERS_GRID_LOCAL_LAYER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/grid/grid_layer.h"
#include "runtime/core/check.h"

namespace lycia {

class GridLocalLayer final : public GridLayer {
 public:
  explicit GridLocalLayer(std::unique_ptr<Layer> layer) : layer_(std::move(layer)) {}
  const std::string& name() const override { return layer_->name(); }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override {
    auto out = layer_->Plan(in, plan);
    LYCIA_CHECK(plan.parameters().empty() && plan.states().empty()) << name() << " has parameters ";
    return out;
  }
  void Forward(const LayerContext& context) const override { layer_->Forward(context); }
  void BackwardInput(const LayerContext& context) const override { layer_->BackwardInput(context); }
  void BackwardWeight(const LayerContext& context) const override { layer_->BackwardWeight(context); }

 private:
  std::unique_ptr<Layer> layer_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_LOCAL_LAYER_H_
