// Residual block of a ResNet (He et al. 2016), W = width, s = stride:
//   basic       x -> 3x3 W s -> 3x3 W, plus x;            out has W channels
//   bottleneck  x -> 1x1 W -> 3x3 W s -> 1x1 4W, plus x;  out has 4 W
// with a batch norm after every convolution, a ReLU after the inner ones and after the sum. Where out has another shape than x, x goes
// through a convolution 1x1 of stride s with a batch norm of its own.
#ifndef LYCIA_MODELS_LAYERS_RESIDUAL_BLOCK_H_
#define LYCIA_MODELS_LAYERS_RESIDUAL_BLOCK_H_

#include <optional>
#include <string>
#include <vector>

#include "models/layers/conv_unit.h"

namespace lycia {

class ResidualBlock final : public Layer {
 public:
  struct Options {
    std::string name;  // "layer1.0"
    std::int64_t width = 64, stride = 1;
    bool bottleneck = false;
    std::int64_t norm_samples = 1;
    double norm_momentum = 0.1;
    ReuseOptions reuse;
  };
  // The convolutions of the main path in order, and the one beside them, which is there where out has another shape than x.
  struct Units {
    std::vector<ConvUnit::Options> path;
    ConvUnit::Options projection;
  };
  static Units UnitsOf(const Options& options);

  explicit ResidualBlock(Options options) : options_(std::move(options)) {}
  const std::string& name() const override { return options_.name; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void MergeStates(const LayerContext& context) const override;

 private:
  // Between the units of the main path: what unit i makes and unit i + 1 reads.
  const Tensor& Inner(const LayerContext& context, std::size_t i) const { return context.keep(inner_[i]); }

  Options options_;
  std::vector<ConvUnit> units_;
  std::optional<ConvUnit> projection_;
  std::vector<KeptHandle> inner_;
  std::vector<ScratchHandle> dinner_;
  ScratchHandle projected_;  // x through the projection; in the backward, its gradient
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_RESIDUAL_BLOCK_H_
