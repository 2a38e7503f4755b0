// Head of a classifier: x [N, H, W, C] or [N, F], its average over the image or all of it -> logits x Wᵀ + b [N, classes] ->
// softmax cross-entropy of one label a sample.
#ifndef LYCIA_MODELS_LAYERS_IMAGE_HEAD_H_
#define LYCIA_MODELS_LAYERS_IMAGE_HEAD_H_

#include <string>

#include "kernels/pool/pool.h"
#include "parallel/layer/layer.h"

namespace lycia {

class ImageHead final : public Layer {
 public:
  // NAME.weight [classes, F], initially normal with variance 1 / (3 F), torch's for linear layers; NAME.bias.
  ImageHead(std::string name, std::int64_t classes, bool average) : name_(std::move(name)), classes_(classes), average_(average) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  PoolShape WholeImage(const Shape& in) const;
  // [N, F]
  Tensor Features(const LayerContext& context) const;

  std::string name_;
  std::int64_t classes_;
  bool average_;
  ParameterHandle weight_, bias_;
  PackedHandle packed_, packed_back_;
  KeptHandle averaged_, dlogits_;  // [N, C], [N, 1, classes]: logits until the loss is known
  ScratchHandle daveraged_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_IMAGE_HEAD_H_
