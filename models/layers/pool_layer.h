// Maximum over square windows of images: [N, H, W, C] -> [N, P, Q, C].
#ifndef LYCIA_MODELS_LAYERS_POOL_LAYER_H_
#define LYCIA_MODELS_LAYERS_POOL_LAYER_H_

#include <string>

#include "kernels/pool/pool.h"
#include "parallel/layer/layer.h"

namespace lycia {

class PoolLayer final : public Layer {
 public:
  struct Window {
    std::int64_t size = 2, stride = 2, pad = 0;
  };
  PoolLayer(std::string name, const Window& window) : name_(std::move(name)), window_(window) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext&) const override {}  // no parameters

 private:
  PoolShape ShapeFor(const Shape& in) const;

  std::string name_;
  Window window_;
  KeptHandle winner_;  // [N, P, Q, C] u8
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_POOL_LAYER_H_
