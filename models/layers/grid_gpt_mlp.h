// MLP block on a grid: x -> x + dropout(a Wp + bp) on the residual's layout, a as in gpt_mlp.h. Of a gated MLP a rank has gate and up of
// the same hidden units, so that the activation moves nothing.
//
//   product  roles (R, K, N)  in                         out
//   fc       (z, x, y)        tokens, gathered along y   tokens of this (z, x), hidden units of this y
//   proj     (z, y, x)        tokens, gathered along x   the residual
#ifndef LYCIA_MODELS_LAYERS_GRID_GPT_MLP_H_
#define LYCIA_MODELS_LAYERS_GRID_GPT_MLP_H_

#include <optional>
#include <string>

#include "models/grid_gpt.h"
#include "parallel/grid/norm.h"

namespace lycia {

class GridGptMlp final : public GridLayer {
 public:
  GridGptMlp(const GridGptShape& shape, int block);
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void Backward(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override;

 private:
  Status PlanProducts(LayerPlan& plan);
  // Gradients down to the input; with `weights` those of the two matrices on the way.
  void BackwardThrough(const LayerContext& context, bool weights) const;
  void BackwardVectors(const LayerContext& context) const;

  GridGptShape shape_;
  std::string prefix_;  // "h.3."
  std::string name_;    // "h.3.mlp"
  std::string dropout_output_;
  GridScratch scratch_;
  GridNorm norm_;
  std::optional<GridLinear> fc_, projection_;
  ParameterHandle fc_bias_, projection_bias_;  // none in a Llama
  KeptHandle hidden_;                          // [rows_zx, hidden units of y, or twice as many: gate and up]
  HandoffHandle dnormed_;                      // the residual's shape
  ScratchHandle dactivated_;                   // [rows_zx, hidden units of y], gated only
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_GPT_MLP_H_
