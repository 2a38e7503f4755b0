#include "models/layers/grid_gpt_embedding.h"

#include "kernels/parts/embedding_part.h"
#include "models/layers/grid_gpt_parameters.h"
#include "models/layers/grid_row_dropout.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GridGptEmbedding::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const GridSizes& sizes = shape_.sizes;
  const Grid& grid = shape_.grid();
  LYCIA_CHECK_EQ(in[0].elements(), sizes.rows_z);
  const GridParameter table = VocabularyTable(shape_, "wte.weight", 0);
  const ParameterHandle wte = Declare(grid, table, plan);
  if (!shape_.options.model.rotary()) wpe_ = Declare(grid, PositionTable(shape_), plan);
  embedding_ = GridEmbedding({.grid = &grid,
                              .rows = sizes.rows_z,
                              .width = sizes.features,
                              .vocabulary = shape_.options.model.vocab,
                              .table = {.parameter = table, .weight = wte, .gradient = wte},
                              .overlap = shape_.options.policy.overlap,
                              .handed_over = shape_.hands_over() ? Declare(grid, TableHandOver(shape_), plan) : ParameterHandle()},
                             plan, &scratch_);
  plan.KeepInput(KeepUntil::kWeight);
  dsum_ = plan.Handoff(shape_.Residual(plan.compute()));
  scratch_.Declare(plan);
  return std::vector<TensorSpec>{shape_.Residual(plan.compute())};
}

void GridGptEmbedding::Forward(const LayerContext& context) const {
  shape_.CheckWhole(context.out[0]);
  Stream& stream = context.stream();
  const Tensor& out = context.out[0];
  embedding_.Forward(context, context.in[0], out);
  if (!shape_.options.model.rotary()) {
    AddPositions(
        stream,
        {.rows = out, .table = context.parameter(wpe_), .position = {.first_row = shape_.first_row(), .length = shape_.options.sequence}});
  }
  const DropoutMask mask = GridRowDropout(shape_, *context.stage, "dropout/embedding");
  if (mask.rate > 0) DropoutForward(stream, {.in = out, .out = out, .mask = mask});
}

void GridGptEmbedding::BackwardInput(const LayerContext& context) const {
  // Tokens have no gradient; what the tables need is dout behind the dropout.
  DropoutBackward(
      context.stream(),
      {.dout = context.dout[0], .din = context.handoff(dsum_), .mask = GridRowDropout(shape_, *context.stage, "dropout/embedding")});
}

void GridGptEmbedding::BackwardWeight(const LayerContext& context) const {
  const Tensor& dsum = context.handoff(dsum_);
  embedding_.BackwardWeight(context, context.in[0], dsum);
  if (shape_.options.model.rotary()) return;
  AddPositionsBackward(
      context.stream(),
      {.drows = dsum, .dtable = context.gradient(wpe_), .position = {.first_row = shape_.first_row(), .length = shape_.options.sequence}});
}

void GridGptEmbedding::Fetch(const LayerContext& context, TransferHandle, TransferPlace& place) const { embedding_.Fetch(context, place); }

}  // namespace lycia
