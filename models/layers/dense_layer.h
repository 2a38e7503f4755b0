// Dense layer: x [N, ...], flattened to [N, F] -> dropout(ReLU(x Wᵀ + b)) [N, U].
#ifndef LYCIA_MODELS_LAYERS_DENSE_LAYER_H_
#define LYCIA_MODELS_LAYERS_DENSE_LAYER_H_

#include <string>

#include "parallel/layer/layer.h"

namespace lycia {

class DenseLayer final : public Layer {
 public:
  struct Options {
    std::string name;  // NAME.weight [U, F], initially normal with variance 2 / F; NAME.bias [U]
    std::int64_t units = 1;
    double dropout = 0;
  };
  explicit DenseLayer(const Options& options) : options_(options), dropout_name_("dropout/" + options.name) {}
  const std::string& name() const override { return options_.name; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  Options options_;
  std::string dropout_name_;
  ParameterHandle weight_, bias_;
  PackedHandle packed_, packed_back_;
  KeptHandle activated_;      // [N, U], before the dropout
  HandoffHandle dactivated_;  // [N, U], of what the ReLU reads
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_DENSE_LAYER_H_
