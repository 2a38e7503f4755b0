// Head and loss on a grid: the residual and labels [B / |z|, T] of this z -> logits of tokens (z, x) and vocabulary y, and the loss. W is
// wte.weight (tied: the embedding's own block, nothing is re-laid) or lm_head.weight. Forward turns the logits into their gradient.
#ifndef LYCIA_MODELS_LAYERS_GRID_GPT_HEAD_H_
#define LYCIA_MODELS_LAYERS_GRID_GPT_HEAD_H_

#include <optional>
#include <string>

#include "models/grid_gpt.h"
#include "parallel/grid/norm.h"
#include "parallel/grid/vocabulary.h"

namespace lycia {

class GridGptHead final : public GridLayer {
 public:
  explicit GridGptHead(const GridGptShape& shape) : shape_(shape) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  // StageContext::logits, where wanted: this rank's [tokens of (z, x), padded vocabulary of y].
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void Backward(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override;

 private:
  GridWeight Weight(LayerPlan& plan);

  GridGptShape shape_;
  std::string name_ = "head";
  GridScratch scratch_;
  GridNorm norm_;
  std::optional<GridLinear> product_;  // roles (z, x, y); its output gradient is made in the forward
  GridCrossEntropy cross_entropy_;
  HandoffHandle dnormed_;  // the residual's shape
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_GPT_HEAD_H_
