// GridDense: x [N, F] Wᵀ + b on a tensor grid, F all features of a sample's image, as a part of a layer. The rule of
// parallel/grid/linear.h with roles R = z, K = the axis of the channels, N = the other: the result has x and y exchanged.
#ifndef LYCIA_MODELS_LAYERS_GRID_DENSE_H_
#define LYCIA_MODELS_LAYERS_GRID_DENSE_H_

#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "models/layers/grid_images.h"
#include "parallel/grid/linear.h"
#include "parallel/grid/parameter.h"
#include "parallel/layer/layer.h"

namespace lycia {

class GridDense {
 public:
  struct Options {
    std::string name;  // NAME.weight [U, F], initially normal; NAME.bias [U]
    std::int64_t units = 1;
    double variance_times_features = 1;  // of the initial weights
    bool early_output_gradient = false;  // GridLinear's
    GridPolicy policy;
    bool weights_each_step = false;
  };
  using Declare = absl::FunctionRef<ParameterHandle(const GridParameter&)>;
  // Returns out, images of one pixel: a rank's part is [samples, 1, 1, units], padded. scratch is the layer's. InvalidArgument for samples
  // that the grid does not divide.
  StatusOr<GridImages> Plan(const Grid& grid, const GridImages& in, const Options& options, Declare declare, LayerPlan& plan,
                            GridScratch* scratch);
  std::int64_t part_units() const { return part_units_; }

  TransferHandle transfer() const { return product_->transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { product_->Fetch(context, place); }
  // Where the caller writes this rank's part of x before Forward.
  Tensor Input(const LayerContext& context) const { return product_->Input(context); }
  void Forward(const LayerContext& context, const Tensor& out) const { product_->Forward(context, out, context.parameter(bias_)); }
  // Where the caller writes this rank's part of the result's gradient.
  Tensor OutputGradient(const LayerContext& context) const { return product_->OutputGradient(context); }
  void BackwardInput(const LayerContext& context, const Tensor& din) const { product_->BackwardInput(context, din); }
  void BackwardWeight(const LayerContext& context) const;
  void Backward(const LayerContext& context, const Tensor& din) const;

 private:
  void BackwardBias(const LayerContext& context) const;

  std::int64_t part_units_ = 0;
  std::optional<GridLinear> product_;
  ParameterHandle bias_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_DENSE_H_
