// Embedding on a grid: tokens [B / |z|, T] i32 of this z -> the residual, dropout(wte[token] + wpe[position]), or
// without wpe where positions are rotary.
#ifndef LYCIA_MODELS_LAYERS_GRID_GPT_EMBEDDING_H_
#define LYCIA_MODELS_LAYERS_GRID_GPT_EMBEDDING_H_

#include <string>

#include "models/grid_gpt.h"
#include "parallel/grid/vocabulary.h"

namespace lycia {

class GridGptEmbedding final : public GridLayer {
 public:
  explicit GridGptEmbedding(const GridGptShape& shape) : shape_(shape) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override;

 private:
  GridGptShape shape_;
  std::string name_ = "embedding";
  GridScratch scratch_;
  GridEmbedding embedding_;
  ParameterHandle wpe_;  // learned positions only
  HandoffHandle dsum_;   // the residual's shape: gradient of the embedding before dropout
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_GPT_EMBEDDING_H_
