#include "models/layers/grid_gpt_mlp.h"

#include "kernels/activation/gelu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/gemm/gemm.h"
#include "models/layers/grid_gpt_parameters.h"
#include "models/layers/grid_row_dropout.h"
#include "models/layers/optional_bias.h"

namespace lycia {

GridGptMlp::GridGptMlp(const GridGptShape& shape, int block)
    : shape_(shape), prefix_(StrCat("h.", block, ".")), name_(prefix_ + "mlp"), dropout_output_("dropout/" + prefix_ + "mlp_out") {}

StatusOr<std::vector<TensorSpec>> GridGptMlp::Plan(std::span<const TensorSpec>, LayerPlan& plan) {
  const Grid& grid = shape_.grid();
  const GptConfig& model = shape_.options.model;
  const TensorSpec residual = shape_.Residual(plan.compute());
  plan.KeepInput(KeepUntil::kWeight);
  const ParameterHandle gamma = Declare(grid, FeatureVector(shape_, prefix_ + "ln_2.weight", Initial::kOne), plan);
  const ParameterHandle beta = model.rms_norm() ? ParameterHandle() : Declare(grid, FeatureVector(shape_, prefix_ + "ln_2.bias"), plan);
  norm_ = GridNorm({.grid = &grid, .rows = shape_.sizes.rows_zy, .gamma = gamma, .beta = beta, .eps = model.norm_eps}, plan, &scratch_);
  LYCIA_RETURN_IF_ERROR(PlanProducts(plan));
  if (model.biases()) {
    fc_bias_ = Declare(grid, MlpBias(shape_, prefix_), plan);
    projection_bias_ = Declare(grid, FeatureVector(shape_, prefix_ + "mlp.c_proj.bias"), plan);
  }
  hidden_ = plan.Keep(fc_->out_spec(), KeepUntil::kInput);
  dnormed_ = plan.Handoff(residual);
  if (model.gated()) dactivated_ = plan.Scratch(projection_->in_spec());
  scratch_.Declare(plan);
  const std::int64_t products = model.gated() ? 3 : 2;
  plan.CountFlops(2.0 * static_cast<double>(shape_.sizes.rows_z) *
                  static_cast<double>(products * shape_.sizes.features * shape_.sizes.ffn));
  return std::vector<TensorSpec>{residual};
}

Status GridGptMlp::PlanProducts(LayerPlan& plan) {
  const GridSizes& sizes = shape_.sizes;
  const Grid& grid = shape_.grid();
  const bool gated = shape_.options.model.gated();
  const GridParameter weight = MlpWeight(shape_, prefix_), back = MlpProjection(shape_, prefix_);
  const ParameterHandle weight_handle = Declare(grid, weight, plan), back_handle = Declare(grid, back, plan);
  LYCIA_ASSIGN_OR_RETURN(fc_, GridLinear::Create({.grid = &grid,
                                                  .roles = {.rows = Axis::kZ, .contraction = Axis::kX, .columns = Axis::kY},
                                                  .in = kResidualSharding,
                                                  .rows = sizes.rows_z,
                                                  .in_width = sizes.features,
                                                  .out_width = gated ? 2 * sizes.ffn : sizes.ffn,
                                                  .policy = shape_.options.policy,
                                                  .weights = {{weight, weight_handle, weight_handle}}},
                                                 plan, &scratch_));
  LYCIA_ASSIGN_OR_RETURN(projection_, GridLinear::Create({.grid = &grid,
                                                          .roles = {.rows = Axis::kZ, .contraction = Axis::kY, .columns = Axis::kX},
                                                          .in = fc_->out(),
                                                          .rows = sizes.rows_z,
                                                          .in_width = sizes.ffn,
                                                          .out_width = sizes.features,
                                                          .policy = shape_.options.policy,
                                                          .weights = {{back, back_handle, back_handle}}},
                                                         plan, &scratch_));
  LYCIA_CHECK(projection_->out() == kResidualSharding) << projection_->out().ToString() << " ";
  return OkStatus();
}

void GridGptMlp::Forward(const LayerContext& context) const {
  shape_.CheckWhole(context.in[0]);
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &out = context.out[0], &hidden = context.keep(hidden_);
  norm_.Forward(context, x, fc_->Input(context));
  fc_->Forward(context, hidden, OptionalBias(context, fc_bias_));
  const Tensor activated = projection_->Input(context);
  if (shape_.options.model.gated()) {
    SwiGluForward(stream, {.in = hidden, .out = activated});
  } else {
    GeluForward(stream, {.in = hidden, .out = activated});
  }
  projection_->Forward(context, out, OptionalBias(context, projection_bias_));
  DropoutForward(stream, {.in = out, .residual = x, .out = out, .mask = GridRowDropout(shape_, *context.stage, dropout_output_)});
}

void GridGptMlp::BackwardInput(const LayerContext& context) const { BackwardThrough(context, /*weights=*/false); }

void GridGptMlp::BackwardWeight(const LayerContext& context) const {
  projection_->BackwardWeight(context);
  fc_->BackwardWeight(context);
  BackwardVectors(context);
}

void GridGptMlp::Backward(const LayerContext& context) const {
  BackwardThrough(context, /*weights=*/true);
  BackwardVectors(context);
}

void GridGptMlp::Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const {
  (transfer == fc_->transfer() ? fc_ : projection_)->Fetch(context, place);
}

void GridGptMlp::BackwardThrough(const LayerContext& context, bool weights) const {
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &dout = context.dout[0], &din = context.din[0], &dnormed = context.handoff(dnormed_);
  const bool gated = shape_.options.model.gated();
  const Tensor hidden = context.keep(hidden_), dhidden = fc_->OutputGradient(context);
  const Tensor dactivated = gated ? context.temporary(dactivated_) : dhidden;
  DropoutBackward(
      stream, {.dout = dout, .din = projection_->OutputGradient(context), .mask = GridRowDropout(shape_, *context.stage, dropout_output_)});
  weights ? projection_->Backward(context, dactivated) : projection_->BackwardInput(context, dactivated);
  if (gated) {
    SwiGluBackward(stream, {.in = hidden, .dout = dactivated, .din = dhidden});
  } else {
    GeluBackward(stream, {.in = hidden, .dout = dactivated, .din = dhidden});
  }
  weights ? fc_->Backward(context, dnormed) : fc_->BackwardInput(context, dnormed);
  stream.Copy(din.data, dout.data, dout.bytes());  // through the residual connection
  norm_.BackwardInput(context, x, dnormed, din, /*accumulate=*/true);
}

void GridGptMlp::BackwardVectors(const LayerContext& context) const {
  OptionalBiasGradient(context, projection_->OutputGradient(context), projection_bias_);
  OptionalBiasGradient(context, fc_->OutputGradient(context), fc_bias_);
  norm_.BackwardWeight(context, context.in[0], context.handoff(dnormed_));
}

}  // namespace lycia
