// DenseLayer on a tensor grid: x, flattened -> dropout(ReLU(x Wᵀ + b)), images of one pixel with x and y exchanged (grid_dense.h).
#ifndef LYCIA_MODELS_LAYERS_GRID_DENSE_LAYER_H_
#define LYCIA_MODELS_LAYERS_GRID_DENSE_LAYER_H_

#include <string>

#include "kernels/elementwise/dropout.h"
#include "models/layers/grid_dense.h"
#include "parallel/grid/grid_layer.h"

namespace lycia {

class GridDenseLayer final : public GridLayer {
 public:
  struct Options {
    const Grid* grid = nullptr;  // outlives the layer
    GridImages in;
    GridDense::Options dense;
    double dropout = 0;
  };
  explicit GridDenseLayer(const Options& options) : options_(options), dropout_name_("dropout/" + options.dense.name) {}
  const std::string& name() const override { return options_.dense.name; }
  // in: GridImages::Part of Options::in.
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override { dense_.BackwardWeight(context); }
  void Backward(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle, TransferPlace& place) const override { dense_.Fetch(context, place); }

 private:
  // By the global index (sample U + unit), as without a grid. rate 0 in evaluation.
  DropoutMask Mask(const StageContext& stage) const;
  void BackwardActivation(const LayerContext& context) const;

  Options options_;
  std::string dropout_name_;
  GridImages out_;
  GridDense dense_;
  GridScratch scratch_;
  KeptHandle activated_;  // [samples, 1, 1, units] of this rank, before the dropout
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_DENSE_LAYER_H_
