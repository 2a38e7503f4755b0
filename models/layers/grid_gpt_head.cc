#include "models/layers/grid_gpt_head.h"

#include "models/layers/grid_gpt_parameters.h"

namespace lycia {

GridWeight GridGptHead::Weight(LayerPlan& plan) {
  const GridGptOptions& options = shape_.options;
  const Grid& grid = shape_.grid();
  const bool tied = options.model.tied, one_rank = tied && (options.tied_in_one_stage || options.weights_each_step);
  const GridParameter table = VocabularyTable(shape_, tied ? "wte.weight" : "lm_head.weight", tied && !one_rank ? 1 : 0);
  const ParameterHandle weight = Declare(grid, table, plan);
  const bool hand_over = shape_.hands_over();
  const ParameterHandle gradient = hand_over ? Declare(grid, TableHandOver(shape_), plan) : weight;
  return {.parameter = table, .weight = weight, .gradient = gradient, .hand_over = hand_over};
}

StatusOr<std::vector<TensorSpec>> GridGptHead::Plan(std::span<const TensorSpec>, LayerPlan& plan) {
  const GridSizes& sizes = shape_.sizes;
  const Grid& grid = shape_.grid();
  const GptConfig& model = shape_.options.model;
  plan.KeepInput(KeepUntil::kWeight);
  const ParameterHandle gamma = Declare(grid, FeatureVector(shape_, "ln_f.weight", Initial::kOne), plan);
  const ParameterHandle beta = model.rms_norm() ? ParameterHandle() : Declare(grid, FeatureVector(shape_, "ln_f.bias"), plan);
  norm_ = GridNorm({.grid = &grid, .rows = sizes.rows_zy, .gamma = gamma, .beta = beta, .eps = model.norm_eps}, plan, &scratch_);
  const GridWeight weight = Weight(plan);
  LYCIA_ASSIGN_OR_RETURN(product_, GridLinear::Create({.grid = &grid,
                                                       .roles = {.rows = Axis::kZ, .contraction = Axis::kX, .columns = Axis::kY},
                                                       .in = kResidualSharding,
                                                       .rows = sizes.rows_z,
                                                       .in_width = sizes.features,
                                                       .out_width = sizes.vocabulary,
                                                       .transposed = true,
                                                       .early_output_gradient = true,
                                                       .policy = shape_.options.policy,
                                                       .weights = {weight}},
                                                      plan, &scratch_));
  cross_entropy_ =
      GridCrossEntropy(grid, sizes.rows_zx, sizes.vocabulary, shape_.options.model.vocab, shape_.options.sequence, plan, &scratch_);
  dnormed_ = plan.Handoff(shape_.Residual(plan.compute()));
  plan.ReadLabels({DType::kI32, {sizes.samples, shape_.options.sequence}});
  scratch_.Declare(plan);
  plan.CountFlops(2.0 * static_cast<double>(sizes.rows_z) * static_cast<double>(sizes.features * sizes.vocabulary));
  return std::vector<TensorSpec>{};
}

void GridGptHead::Forward(const LayerContext& context) const {
  shape_.CheckWhole(context.in[0]);
  const Tensor logits = product_->OutputGradient(context);
  norm_.Forward(context, context.in[0], product_->Input(context));
  product_->Forward(context, logits, {});
  if (const Tensor& wanted = context.stage->logits; wanted.data != nullptr) context.stream().Copy(wanted.data, logits.data, logits.bytes());
  cross_entropy_.Forward(context, logits, context.labels);
}

void GridGptHead::BackwardInput(const LayerContext& context) const {
  const Tensor& dnormed = context.handoff(dnormed_);
  product_->BackwardInput(context, dnormed);
  norm_.BackwardInput(context, context.in[0], dnormed, context.din[0], /*accumulate=*/false);
}

void GridGptHead::BackwardWeight(const LayerContext& context) const {
  product_->BackwardWeight(context);
  norm_.BackwardWeight(context, context.in[0], context.handoff(dnormed_));
}

void GridGptHead::Backward(const LayerContext& context) const {
  const Tensor& dnormed = context.handoff(dnormed_);
  product_->Backward(context, dnormed);
  norm_.BackwardInput(context, context.in[0], dnormed, context.din[0], /*accumulate=*/false);
  norm_.BackwardWeight(context, context.in[0], dnormed);
}

void GridGptHead::Fetch(const LayerContext& context, TransferHandle, TransferPlace& place) const { product_->Fetch(context, place); }

}  // namespace lycia
