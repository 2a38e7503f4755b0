// GridConvBlock: convolutions in a row on a tensor grid (grid_conv_unit.h), alone or with a residual connection around them: a block of a
// ResNet (He et al. 2016). The connection is the input itself where the result lies as the input does, or a projection that lies as the
// result: an even number of convolutions exchange x and y back, an odd one is made even by a unit that keeps (kernel 1x1).
#ifndef LYCIA_MODELS_LAYERS_GRID_CONV_BLOCK_H_
#define LYCIA_MODELS_LAYERS_GRID_CONV_BLOCK_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kernels/image/normalize.h"
#include "models/layers/grid_conv_unit.h"
#include "parallel/grid/grid_layer.h"

namespace lycia {

class GridConvBlock final : public GridLayer {
 public:
  struct Options {
    std::string name;
    const Grid* grid = nullptr;  // outlives the layer
    // Whole images are bytes, of which (byte / 255 - mean) / deviation goes in.
    GridImages in;
    std::array<double, kMaxImageChannels> mean{}, deviation = {1, 1, 1, 1};
    std::vector<GridConvUnit::Options> units;
    // The last unit, which has a norm, adds the block's input, or what the projection makes of it, before its ReLU.
    bool skip = false;
    std::optional<GridConvUnit::Options> projection;  // without ReLU; keeps, and adds
    bool input_gradient = true;                       // false: nobody asks for that of the input, as of whole images
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
  bool skips_back() const { return options_.skip && (options_.input_gradient || projection_); }
  StatusOr<GridImages> PlanUnit(GridConvUnit& unit, const GridImages& in, LayerPlan& plan);
  Status CheckSkip(const GridImages& around) const;
  void BackwardThrough(const LayerContext& context, bool weights) const;

  Options options_;
  GridImages out_;
  std::vector<GridConvUnit> units_;
  std::optional<GridConvUnit> projection_;
  GridScratch scratch_;
  ScratchHandle projected_;  // of the projection: its result
  ScratchHandle dskip_;      // the gradient of what the last unit adds
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_CONV_BLOCK_H_
