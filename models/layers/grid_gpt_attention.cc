#include "models/layers/grid_gpt_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/gemm/gemm.h"
#include "models/layers/grid_gpt_parameters.h"
#include "models/layers/grid_row_dropout.h"
#include "models/layers/optional_bias.h"

namespace lycia {

GridGptAttention::GridGptAttention(const GridGptShape& shape, int block, std::shared_ptr<RotaryAngles> angles)
    : shape_(shape),
      prefix_(StrCat("h.", block, ".")),
      name_(prefix_ + "attn"),
      dropout_probabilities_("dropout/" + prefix_ + "attn"),
      dropout_output_("dropout/" + prefix_ + "attn_out"),
      angles_(std::move(angles)) {}

StatusOr<std::vector<TensorSpec>> GridGptAttention::Plan(std::span<const TensorSpec>, LayerPlan& plan) {
  const GridSizes& sizes = shape_.sizes;
  const GptConfig& model = shape_.options.model;
  const DType dtype = plan.compute();
  const TensorSpec residual = shape_.Residual(dtype);
  plan.KeepInput(KeepUntil::kWeight);
  const ParameterHandle gamma = Declare(shape_.grid(), FeatureVector(shape_, prefix_ + "ln_1.weight", Initial::kOne), plan);
  const ParameterHandle beta =
      model.rms_norm() ? ParameterHandle() : Declare(shape_.grid(), FeatureVector(shape_, prefix_ + "ln_1.bias"), plan);
  norm_ = GridNorm({.grid = &shape_.grid(), .rows = sizes.rows_zy, .gamma = gamma, .beta = beta, .eps = model.norm_eps}, plan, &scratch_);
  LYCIA_RETURN_IF_ERROR(PlanQkv(plan));
  LYCIA_RETURN_IF_ERROR(PlanProjection(plan));
  if (model.biases()) projection_bias_ = Declare(shape_.grid(), FeatureVector(shape_, prefix_ + "attn.c_proj.bias"), plan);

  const std::int64_t D = model.head_dim();
  qkv_ = plan.Keep({dtype, {sizes.rows_z, qkv_width()}}, KeepUntil::kInput);
  log_sum_exp_ = plan.Keep({plan.statistics(), {sizes.samples, sizes.heads, shape_.options.sequence}}, KeepUntil::kInput);
  dnormed_ = plan.Handoff(residual);
  dmixed_ = plan.Scratch({dtype, {sizes.rows_z, sizes.heads * D}});
  problem_ = {.dtype = dtype,
              .samples = sizes.samples,
              .queries = shape_.options.sequence,
              .keys = shape_.options.sequence,
              .heads = sizes.heads,
              .kv_heads = sizes.kv_heads,
              .head_dim = D,
              .scale = 1 / std::sqrt(static_cast<double>(D)),
              .mask = MaskKind::kCausal};
  if (angles_ != nullptr) angles_->Prepare(shape_.options.sequence, plan.statistics());
  attention_scratch_ = plan.Workspace(std::max(AttentionForwardScratchBytes(problem_), AttentionBackwardScratchBytes(problem_)));
  scratch_.Declare(plan);
  const double products = static_cast<double>(sizes.features) * static_cast<double>(shape_.grid().size(Axis::kX) * qkv_width()) +
                          static_cast<double>(shape_.grid().size(Axis::kX) * sizes.heads * D) * static_cast<double>(sizes.features);
  plan.CountFlops(2.0 * static_cast<double>(sizes.rows_z) * products, AttentionForwardFlops(problem_));
  return std::vector<TensorSpec>{residual};
}

Status GridGptAttention::PlanQkv(LayerPlan& plan) {
  const GridSizes& sizes = shape_.sizes;
  const Grid& grid = shape_.grid();
  const std::int64_t D = shape_.options.model.head_dim(), parts = grid.size(Axis::kX);
  const bool biases = shape_.options.model.biases();
  GridLinear::Args args{.grid = &grid,
                        .roles = {.rows = Axis::kZ, .contraction = Axis::kX, .columns = Axis::kY},
                        .in = kResidualSharding,
                        .in_parts = Spread::kRows,
                        .out_parts = Spread::kColumns,
                        .rows = sizes.rows_z,
                        .in_width = sizes.features,
                        .out_width = parts * qkv_width(),
                        .policy = shape_.options.policy};
  const auto declare = [&](const GridParameter& parameter) {
    const ParameterHandle handle = Declare(grid, parameter, plan);
    args.weights.push_back({.parameter = parameter, .weight = handle, .gradient = handle});
  };
  if (sizes.kv_shared) {
    declare(QueryWeight(shape_, prefix_));
    declare(KeyValueWeight(shape_, prefix_));
    const std::int64_t q = sizes.heads * D;
    for (std::int64_t x = 0; x < parts; ++x) {
      const std::int64_t key = FirstKeyHead(shape_, grid.coordinate(Axis::kY) * parts + x);
      const std::int64_t value = shape_.options.model.key_heads() + key;
      args.pieces.push_back({{.weight = 0, .from = x * q, .at = 0, .width = q},
                             {.weight = 1, .from = key * D, .at = q, .width = D},
                             {.weight = 1, .from = value * D, .at = q + D, .width = D}});
    }
    if (biases) {
      qkv_bias_ = Declare(grid, QueryBias(shape_, prefix_), plan);
      key_value_bias_ = Declare(grid, KeyValueBias(shape_, prefix_), plan);
      bias_scratch_ = plan.Workspace(qkv_width() * SizeOf(plan.compute()));
    }
  } else {
    declare(QkvWeight(shape_, prefix_));
    if (biases) qkv_bias_ = Declare(grid, QkvBias(shape_, prefix_), plan);
  }
  LYCIA_ASSIGN_OR_RETURN(qkv_product_, GridLinear::Create(args, plan, &scratch_));
  return OkStatus();
}

Status GridGptAttention::PlanProjection(LayerPlan& plan) {
  const GridSizes& sizes = shape_.sizes;
  const Grid& grid = shape_.grid();
  const GridParameter weight = AttentionProjection(shape_, prefix_);
  const ParameterHandle handle = Declare(grid, weight, plan);
  LYCIA_ASSIGN_OR_RETURN(projection_, GridLinear::Create({.grid = &grid,
                                                          .roles = {.rows = Axis::kZ, .contraction = Axis::kY, .columns = Axis::kX},
                                                          .in = qkv_product_->out(),
                                                          .in_parts = Spread::kColumns,
                                                          .out_parts = Spread::kRows,
                                                          .rows = sizes.rows_z,
                                                          .in_width = grid.size(Axis::kX) * sizes.heads * shape_.options.model.head_dim(),
                                                          .out_width = sizes.features,
                                                          .policy = shape_.options.policy,
                                                          .weights = {{.parameter = weight, .weight = handle, .gradient = handle}}},
                                                         plan, &scratch_));
  LYCIA_CHECK(projection_->out() == kResidualSharding) << projection_->out().ToString() << " ";
  return OkStatus();
}

Tensor GridGptAttention::AsSequences(const Tensor& rows) const {
  return {rows.data, rows.dtype, {shape_.sizes.samples, shape_.options.sequence, rows.shape.dim(-1)}};
}

AttentionProblem GridGptAttention::Problem(const StageContext& stage) const {
  AttentionProblem problem = problem_;
  const GptConfig& model = shape_.options.model;
  if (stage.training && model.dropout > 0) {
    problem.dropout = {.rate = model.dropout,
                       .random = RandomStream(stage.seed, dropout_probabilities_, stage.random_step()),
                       .first_sample = shape_.first_sample(stage),
                       .first_head = shape_.head_part() * shape_.sizes.heads,
                       .total_heads = model.heads,
                       .length = problem.keys};
  }
  return problem;
}

namespace {

// Columns of a rank's [q | k | v] and where they lie in its bias vectors.
struct BiasPiece {
  std::int64_t at, width;
  bool key_value;
  std::int64_t from;
};

std::array<BiasPiece, 3> BiasPieces(const GridGptShape& shape) {
  const std::int64_t D = shape.options.model.head_dim(), q = shape.sizes.heads * D;
  const std::int64_t key = FirstKeyHead(shape, shape.head_part()), value = shape.options.model.key_heads() + key;
  return {{{0, q, false, 0}, {q, D, true, key * D}, {q + D, D, true, value * D}}};
}

Tensor Part(const Tensor& vector, std::int64_t from, std::int64_t width) {
  char* data = static_cast<char*>(vector.data);
  return {data == nullptr ? nullptr : data + from * SizeOf(vector.dtype), vector.dtype, {width}};
}

}  // namespace

ConstTensor GridGptAttention::QkvBiasOf(const LayerContext& context) const {
  const ConstTensor own = OptionalBias(context, qkv_bias_);
  if (own.data == nullptr || !shape_.sizes.kv_shared) return own;
  const Tensor& query = context.parameter(qkv_bias_);
  const Tensor bias{context.temporary(bias_scratch_).data, query.dtype, {qkv_width()}};
  for (const BiasPiece& piece : BiasPieces(shape_)) {
    const Tensor& of = piece.key_value ? context.parameter(key_value_bias_) : query;
    const Tensor to = Part(bias, piece.at, piece.width);
    context.stream().Copy(to.data, Part(of, piece.from, piece.width).data, to.bytes());
  }
  return bias;
}

void GridGptAttention::Forward(const LayerContext& context) const {
  shape_.CheckWhole(context.in[0]);
  Stream& stream = context.stream();
  const GridSizes& sizes = shape_.sizes;
  const Tensor &x = context.in[0], &out = context.out[0], &qkv = context.keep(qkv_);
  norm_.Forward(context, x, qkv_product_->Input(context));
  qkv_product_->Forward(context, qkv, QkvBiasOf(context));
  if (angles_ != nullptr) angles_->Turn(stream, AsSequences(qkv), sizes.heads + sizes.kv_heads);
  const PackedQkv<ConstHeadsView> part = SplitQkv(ConstTensor(AsSequences(qkv)), sizes.heads, sizes.kv_heads);
  AttentionForward(stream, {.problem = Problem(*context.stage),
                            .q = part.q,
                            .k = part.k,
                            .v = part.v,
                            .out = AsHeads(AsSequences(projection_->Input(context)), sizes.heads),
                            .log_sum_exp = context.keep(log_sum_exp_),
                            .scratch = context.temporary(attention_scratch_)});
  projection_->Forward(context, out, OptionalBias(context, projection_bias_));
  DropoutForward(stream, {.in = out, .residual = x, .out = out, .mask = GridRowDropout(shape_, *context.stage, dropout_output_)});
}

void GridGptAttention::BackwardInput(const LayerContext& context) const { BackwardThrough(context, /*weights=*/false); }

void GridGptAttention::BackwardWeight(const LayerContext& context) const {
  projection_->BackwardWeight(context);
  qkv_product_->BackwardWeight(context);
  BackwardVectors(context);
}

void GridGptAttention::Backward(const LayerContext& context) const {
  BackwardThrough(context, /*weights=*/true);
  BackwardVectors(context);
}

void GridGptAttention::Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const {
  (transfer == projection_->transfer() ? projection_ : qkv_product_)->Fetch(context, place);
}

void GridGptAttention::BackwardThrough(const LayerContext& context, bool weights) const {
  Stream& stream = context.stream();
  const GridSizes& sizes = shape_.sizes;
  const Tensor &x = context.in[0], &dout = context.dout[0], &din = context.din[0];
  const Tensor &dmixed = context.temporary(dmixed_), &dnormed = context.handoff(dnormed_);
  DropoutBackward(
      stream, {.dout = dout, .din = projection_->OutputGradient(context), .mask = GridRowDropout(shape_, *context.stage, dropout_output_)});
  weights ? projection_->Backward(context, dmixed) : projection_->BackwardInput(context, dmixed);
  const PackedQkv<ConstHeadsView> part = SplitQkv(ConstTensor(AsSequences(context.keep(qkv_))), sizes.heads, sizes.kv_heads);
  const Tensor dqkv = AsSequences(qkv_product_->OutputGradient(context));
  const PackedQkv<HeadsView> dpart = SplitQkv(dqkv, sizes.heads, sizes.kv_heads);
  AttentionBackward(stream, {.problem = Problem(*context.stage),
                             .q = part.q,
                             .k = part.k,
                             .v = part.v,
                             .out = AsHeads(ConstTensor(AsSequences(projection_->Input(context))), sizes.heads),
                             .dout = AsHeads(ConstTensor(AsSequences(dmixed)), sizes.heads),
                             .log_sum_exp = context.keep(log_sum_exp_),
                             .dq = dpart.q,
                             .dk = dpart.k,
                             .dv = dpart.v,
                             .scratch = context.temporary(attention_scratch_)});
  if (angles_ != nullptr) angles_->TurnBack(stream, dqkv, sizes.heads + sizes.kv_heads);
  weights ? qkv_product_->Backward(context, dnormed) : qkv_product_->BackwardInput(context, dnormed);
  stream.Copy(din.data, dout.data, dout.bytes());  // through the residual connection
  norm_.BackwardInput(context, x, dnormed, din, /*accumulate=*/true);
}

void GridGptAttention::BackwardVectors(const LayerContext& context) const {
  OptionalBiasGradient(context, projection_->OutputGradient(context), projection_bias_);
  const Tensor dqkv = qkv_product_->OutputGradient(context);
  if (!shape_.sizes.kv_shared) {
    OptionalBiasGradient(context, dqkv, qkv_bias_);
  } else if (shape_.options.model.biases()) {
    for (const BiasPiece& piece : BiasPieces(shape_)) {
      const Tensor first = Part(dqkv, piece.at, piece.width);
      const Tensor& of = context.gradient(piece.key_value ? key_value_bias_ : qkv_bias_);
      BiasGradient(context.stream(), {.dout = ConstMatrix(first.data, first.dtype, shape_.sizes.rows_z, piece.width, qkv_width()),
                                      .dbias = Part(of, piece.from, piece.width)});
    }
  }
  norm_.BackwardWeight(context, context.in[0], context.handoff(dnormed_));
}

}  // namespace lycia
