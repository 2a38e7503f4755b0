// Attention block on a grid: x -> x + dropout(Attention(norm(x) Wqkv + bqkv) Wp + bp) on the residual's layout.
//
//   product  roles (R, K, N)  in                            out
//   QKV      (z, x, y)        tokens, gathered along y      whole sequences of this z, heads of this (y, x)
//   proj     (z, y, x)        heads, gathered along x       the residual
//
// Attention itself moves nothing, nor does the rotation of q and k, where positions are rotary. Where there are fewer key/value heads than
// (y, x) parts, their columns are a weight of its own, owned flat along (z, y) and used whole; each part multiplies with the head it needs.
#ifndef LYCIA_MODELS_LAYERS_GRID_GPT_ATTENTION_H_
#define LYCIA_MODELS_LAYERS_GRID_GPT_ATTENTION_H_

#include <memory>
#include <optional>
#include <string>

#include "kernels/attention/attention.h"
#include "models/grid_gpt.h"
#include "models/layers/rotary_angles.h"
#include "parallel/grid/norm.h"

namespace lycia {

class GridGptAttention final : public GridLayer {
 public:
  // angles: of all blocks, null where positions are learned.
  GridGptAttention(const GridGptShape& shape, int block, std::shared_ptr<RotaryAngles> angles);
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;
  void Backward(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override;

 private:
  Status PlanQkv(LayerPlan& plan);
  Status PlanProjection(LayerPlan& plan);
  // Gradients down to the input; with `weights` those of the two matrices on the way.
  void BackwardThrough(const LayerContext& context, bool weights) const;
  void BackwardVectors(const LayerContext& context) const;
  ConstTensor QkvBiasOf(const LayerContext& context) const;
  AttentionProblem Problem(const StageContext& stage) const;  // with this micro-batch's dropout
  std::int64_t qkv_width() const { return (shape_.sizes.heads + 2 * shape_.sizes.kv_heads) * shape_.options.model.head_dim(); }
  // [rows, width] of this z seen as [samples, T, width].
  Tensor AsSequences(const Tensor& rows) const;

  GridGptShape shape_;
  std::string prefix_;  // "h.3."
  std::string name_;    // "h.3.attn"
  std::string dropout_probabilities_, dropout_output_;
  GridScratch scratch_;
  GridNorm norm_;
  std::optional<GridLinear> qkv_product_, projection_;
  ParameterHandle qkv_bias_, key_value_bias_, projection_bias_;  // none in a Llama; key_value_bias_: shared key/value heads only
  KeptHandle qkv_, log_sum_exp_;                                 // [rows_z, width of this part], [samples, heads, T]
  HandoffHandle dnormed_;                                        // the residual's shape
  ScratchHandle dmixed_, attention_scratch_, bias_scratch_;
  AttentionProblem problem_;
  std::shared_ptr<RotaryAngles> angles_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_GPT_ATTENTION_H_
