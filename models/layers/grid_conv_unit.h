// GridConvUnit: ConvUnit on a tensor grid, as a part of a layer:
//   out = ReLU(norm(conv(in)) + residual), each of norm, residual and ReLU if asked for.
// What follows the product is of single samples and channels, or of groups of samples that lie whole on a rank: it moves nothing.
#ifndef LYCIA_MODELS_LAYERS_GRID_CONV_UNIT_H_
#define LYCIA_MODELS_LAYERS_GRID_CONV_UNIT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "models/layers/grid_images.h"
#include "models/layers/unit_norm.h"
#include "parallel/grid/conv.h"
#include "parallel/grid/linear.h"
#include "parallel/grid/state.h"
#include "parallel/layer/layer.h"

namespace lycia {

// Three ways to lie:
//   the rule (parallel/grid/conv.h): sums over the axis of its channels and cuts its filters along the other, so that x and y are
//   exchanged; of whole images: no rank lacks a channel; filters along the images' axis, and no activation moves; keeps: a filter 1x1
//   gathers the channels of the pixels that it sees; the result lies as `in` does. For the odd ones of a residual block.
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
    bool keeps = false;
    bool adds = false;           // din += instead of din =; only of a unit that keeps
    bool input_gradient = true;  // false: nobody asks for that of `in`, as of whole images
    GridPolicy policy;
    bool weights_each_step = false;  // gathered and reduced once a step (StepExchange)
  };
  explicit GridConvUnit(Options options) : options_(std::move(options)) {}

  using Declare = absl::FunctionRef<ParameterHandle(const GridParameter&)>;
  // Returns out. scratch is the layer's.
  StatusOr<GridImages> Plan(const Grid& grid, const GridImages& in, Declare declare, LayerPlan& plan, GridScratch* scratch);
  TensorSpec out_spec() const { return out_; }
  const std::vector<GridState>& states() const { return states_; }  // after Plan

  TransferHandle transfer() const;
  void Fetch(const LayerContext& context, TransferPlace& place) const;

  // Where the caller writes in before Forward, unless it calls Take; it stays until BackwardWeight. Of a unit that keeps, [N, P, Q, C] of
  // the pixels it sees.
  Tensor Input(const LayerContext& context) const;
  void Take(const LayerContext& context, const ConstTensor& in) const;
  // residual: only with a norm; absent when data is null. out must be kept until BackwardInput where there is a ReLU.
  void Forward(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const;

  // Memory for dout, where the caller has none of its own.
  Tensor OutputGradient(const LayerContext& context) const;
  struct InputGradient {
    ConstTensor dout, out;  // out of the forward; not read without a ReLU
    Tensor din;             // = or +=; not written without an input gradient
    Tensor dresidual;       // =; absent when data is null; only with a norm
  };
  void BackwardInput(const LayerContext& context, const InputGradient& args) const;
  void BackwardWeight(const LayerContext& context) const;
  // Both: what the product sends is under way while it computes.
  void Backward(const LayerContext& context, const InputGradient& args) const;

  // Observations are [rows of all ranks, channels of this one], of which each rank fills those of its own samples; the ranks of
  // GridState::group bring them together (StateStore::Gather) before this folds them.
  void MergeStates(const LayerContext& context) const;

 private:
  bool normed() const { return !options_.norm.empty(); }
  bool dx_aside() const;  // of a unit that keeps: its dX is not din yet
  ConvShape WholeShape(const GridImages& in) const;
  StatusOr<GridConvShape> Fit(const Grid& grid, const GridImages& in) const;
  Status PlanProduct(const GridImages& in, Declare declare, LayerPlan& plan, GridScratch* scratch);
  void PlanNorm(const GridImages& out, Declare declare, LayerPlan& plan);
  // dY of the product.
  void BackwardNorm(const LayerContext& context, const InputGradient& args) const;
  void BackwardVectors(const LayerContext& context) const;
  void BackwardProduct(const LayerContext& context, const InputGradient& args, bool weights) const;

  Options options_;
  GridConvShape shape_;
  std::vector<GridState> states_;
  std::optional<GridConv> conv_;
  std::optional<GridLinear> pixels_;  // of a unit that keeps: its pixels are rows
  ConvShape seen_;                    // of such a unit, of this rank's part of `in`
  TensorSpec out_;
  ParameterHandle bias_;
  UnitNorm norm_;
  ScratchHandle dseen_;  // [N, P, Q, C], of such a unit's din
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_CONV_UNIT_H_
