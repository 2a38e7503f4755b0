// GridConvBlock: convolutions in a row on a tensor grid (grid_conv_unit.h), each with the axes of channels and samples exchanged against
// the one before, and a residual connection around an even number of them: a basic block of a ResNet (He et al. 2016).
#ifndef LYCIA_MODELS_LAYERS_GRID_CONV_BLOCK_H_
#define LYCIA_MODELS_LAYERS_GRID_CONV_BLOCK_H_

#include <string>
#include <vector>

#include "models/layers/grid_conv_unit.h"
#include "parallel/grid/grid_layer.h"

namespace lycia {

class GridConvBlock final : public GridLayer {
 public:
  struct Options {
    std::string name;
    const Grid* grid = nullptr;  // outlives the layer
    GridImages in;
    std::vector<GridConvUnit::Options> units;
    // The last unit adds the block's input, before its ReLU: then their number is even, since the input lies as the result of an odd number
    // does not, and the last has a norm.
    bool skip = false;
    bool input_gradient = true;  // false: nobody asks for that of the input, as of a model's images
  };
  explicit GridConvBlock(Options options) : options_(std::move(options)) {}

  const std::string& name() const override { return options_.name; }
  // in: GridImages::Part of Options::in.
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  const GridImages& out() const { return out_; }  // after Plan

  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void Backward(const LayerContext& context) const override;
  void MergeStates(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override;

 private:
  bool skips_back() const { return options_.skip && options_.input_gradient; }
  Status CheckSkip() const;
  void BackwardThrough(const LayerContext& context, bool weights) const;

  Options options_;
  GridImages out_;
  std::vector<GridConvUnit> units_;
  GridScratch scratch_;
  ScratchHandle dskip_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_CONV_BLOCK_H_
