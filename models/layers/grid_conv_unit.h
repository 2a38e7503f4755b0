// GridConvUnit: ConvUnit on a tensor grid, as a part of a layer:
//   out = ReLU(norm(conv(in)) + residual), each of norm, residual and ReLU if asked for.
// A batch norm's groups of samples lie whole on a rank that has all their pixels of its channels, so it moves nothing; what follows a
// convolution without a norm does not either.
#ifndef LYCIA_MODELS_LAYERS_GRID_CONV_UNIT_H_
#define LYCIA_MODELS_LAYERS_GRID_CONV_UNIT_H_

#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "parallel/grid/conv.h"
#include "parallel/layer/layer.h"

namespace lycia {

// Images between convolutions: channels are cut along x or y, padded, and samples along z (slow) and the other. A convolution sums over
// its channels' axis and cuts its filters along the other, so its result has x and y exchanged.
struct GridImages {
  std::int64_t samples = 0, height = 0, width = 0, channels = 0;  // of a micro-batch, all ranks together
  Axis channels_along = Axis::kX;

  Axis samples_along() const { return channels_along == Axis::kX ? Axis::kY : Axis::kX; }  // beside z
  // A rank's part [samples, height, width, channels]; sizes that divide.
  TensorSpec Part(const Grid& grid, DType dtype) const;
  Sharding sharding() const {
    return Sharding().With(Axis::kZ, Spread::kRows).With(samples_along(), Spread::kRows).With(channels_along, Spread::kColumns);
  }
  bool operator==(const GridImages&) const = default;
};

class GridConvUnit {
 public:
  struct Options {
    std::string name;                                  // NAME.weight [K, R, S, C], as ConvUnit's; NAME.bias
    std::string norm;                                  // NORM.weight, .bias, .running_mean, .running_var; "": no batch norm
    std::int64_t filters = 1, filter = 1, stride = 1;  // padded by filter / 2 on each side
    bool bias = false;                                 // without a norm
    bool relu = true;
    std::int64_t norm_samples = 1;
    double norm_momentum = 0.1;
    bool input_gradient = true;  // false: nobody asks for that of `in`
    GridPolicy policy;
    bool weights_each_step = false;  // gathered and reduced once a step (StepExchange)
  };
  explicit GridConvUnit(Options options) : options_(std::move(options)) {}

  using Declare = absl::FunctionRef<ParameterHandle(const GridParameter&)>;
  // Returns out. scratch is the layer's.
  StatusOr<GridImages> Plan(const Grid& grid, const GridImages& in, Declare declare, LayerPlan& plan, GridScratch* scratch);
  TensorSpec out_spec() const { return conv_->out_spec(); }

  TransferHandle transfer() const { return conv_->transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { conv_->Fetch(context, place); }

  // Where the caller writes in before Forward; it stays until BackwardWeight.
  Tensor Input(const LayerContext& context) const { return conv_->Input(context); }
  // residual: only with a norm; absent when data is null. out must be kept until BackwardInput where there is a ReLU.
  void Forward(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const;

  // Memory for dout, where the caller has none of its own.
  Tensor OutputGradient(const LayerContext& context) const { return conv_->OutputGradient(context); }
  struct InputGradient {
    ConstTensor dout, out;  // out of the forward; not read without a ReLU
    Tensor din;             // =; not written without an input gradient
    Tensor dresidual;       // =; absent when data is null; only with a norm
  };
  void BackwardInput(const LayerContext& context, const InputGradient& args) const;
  void BackwardWeight(const LayerContext& context) const;
  // Both: what the product sends is under way while it computes.
  void Backward(const LayerContext& context, const InputGradient& args) const;

  // Observations are [rows of all ranks, channels of this one], of which each rank fills those of its own samples; the ranks of
  // state_group() bring them together (StateStore::Gather) before this folds them.
  void MergeStates(const LayerContext& context) const;
  GridGroup state_group() const { return shape_.roles.contraction == Axis::kX ? GridGroup::kZX : GridGroup::kZY; }

 private:
  bool normed() const { return !options_.norm.empty(); }
  void PlanNorm(Declare declare, LayerPlan& plan);
  // The rows of an observation that are of this rank's samples.
  Tensor OwnRows(const Tensor& observation) const;
  // dY of the convolution.
  void BackwardNorm(const LayerContext& context, const InputGradient& args) const;
  void BackwardVectors(const LayerContext& context) const;

  Options options_;
  GridConvShape shape_;
  std::optional<GridConv> conv_;
  ParameterHandle bias_, gamma_, beta_;
  StateHandle running_mean_, running_variance_;
  KeptHandle convolved_, mean_, rstd_;  // [N, P, Q, K], [G, K], [G, K] of this rank
  HandoffHandle sum_d_, sum_dn_;        // [G, K]
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_CONV_UNIT_H_
