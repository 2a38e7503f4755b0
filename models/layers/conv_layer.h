// One convolution unit as a layer. The first of a model reads the bytes of images and normalises them.
#ifndef LYCIA_MODELS_LAYERS_CONV_LAYER_H_
#define LYCIA_MODELS_LAYERS_CONV_LAYER_H_

#include <string>

#include "models/image_model.h"
#include "models/layers/conv_unit.h"

namespace lycia {

class ConvLayer final : public Layer {
 public:
  ConvLayer(const ImageModelConfig& config, const ConvUnit::Options& options) : config_(config), options_(options), unit_(options) {}
  const std::string& name() const override { return options_.name; }
  // in [N, H, W, C] of the plan's type, or u8.
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void MergeStates(const LayerContext& context) const override { unit_.MergeStates(context); }

 private:
  const Tensor& Input(const LayerContext& context) const { return reads_bytes_ ? context.keep(normalised_) : context.in[0]; }

  ImageModelConfig config_;
  ConvUnit::Options options_;
  ConvUnit unit_;
  bool reads_bytes_ = false;
  KeptHandle normalised_;  // [N, H, W, C], where bytes are read
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_CONV_LAYER_H_
