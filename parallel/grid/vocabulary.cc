#include "parallel/grid/vocabulary.h"

#include <algorithm>

#include "kernels/parts/embedding_part.h"

namespace lycia {

using Use = GridScratch::Use;

GridEmbedding::GridEmbedding(const Args& args, LayerPlan& plan, GridScratch* scratch)
    : args_(args), dtype_(plan.compute()), scratch_(scratch), offsets_(args.table.parameter.Offsets(*args.grid)) {
  GridWeight table = args.table;
  table.hand_over = tied();  // what reduces it is not the product alone
  table_ = GridWeights({.grid = args.grid, .policy = {.overlap = args.overlap}, .weights = {table}, .backward = false}, plan);
  if (args.grid->size(Axis::kY) > 1) scratch->Need(Use::kOutput, args.rows * args.width * SizeOf(dtype_));
}

Tensor GridEmbedding::WholeRows(const LayerContext& context) const {
  return scratch_->View(context, Use::kOutput, {dtype_, {args_.rows, args_.width}});
}

void GridEmbedding::Forward(const LayerContext& context, const ConstTensor& tokens, const Tensor& out) const {
  Stream& stream = context.stream();
  const TransferPlace* place = table_.BeginForward(context);
  const Tensor table{table_.Whole(context, place)[0].data, dtype_, BlockSpec().shape};
  const bool reduces = args_.grid->size(Axis::kY) > 1;
  const Tensor rows = reduces ? WholeRows(context) : out;
  EmbeddingPart(stream, {.tokens = tokens, .table = table, .first = first(), .vocabulary = args_.vocabulary, .out = rows});
  if (reduces) ReduceScatterAlong(stream, args_.grid->along(Axis::kY), rows, out, {.tag = Tag::kActivation});
}

void GridEmbedding::BackwardWeight(const LayerContext& context, const ConstTensor& tokens, const ConstTensor& dout) const {
  Stream& stream = context.stream();
  ConstTensor drows = dout;
  if (args_.grid->size(Axis::kY) > 1) {
    const Tensor whole = WholeRows(context);
    GatherAlong(stream, args_.grid->along(Axis::kY), dout, whole, Tag::kActivation);
    drows = whole;
  }
  const auto add = [&](const Tensor& block) {
    EmbeddingPartBackward(stream,
                          {.tokens = tokens, .dout = drows, .first = first(), .dtable = {block.data, block.dtype, BlockSpec().shape}});
  };
  if (!tied()) {
    TransferPlace* place = table_.BeginBackwardWeight(context);
    const GridWeights::Blocks gradients = table_.Gradients(context, place);
    add(gradients[0]);
    return table_.Send(context, gradients, place);
  }
  const Tensor& block = context.gradient(args_.handed_over);
  add(block);
  ReduceScatterAlong(stream, args_.grid->along(Axis::kZ), {block.data, block.dtype, {block.elements()}},
                     context.gradient(args_.table.gradient), {.tag = Tag::kGradient, .accumulate = true, .offsets = offsets_});
  stream.Zero(block.data, block.bytes());
}

GridCrossEntropy::GridCrossEntropy(const Grid& grid, std::int64_t rows, std::int64_t width, std::int64_t vocabulary, std::int64_t length,
                                   LayerPlan& plan, GridScratch* scratch, Axis along)
    : grid_(&grid), along_(along), rows_(rows), length_(length), dtype_(plan.statistics()), scratch_(scratch) {
  const std::int64_t first = grid.coordinate(along) * width;
  part_ = {.first = first, .valid = std::clamp<std::int64_t>(vocabulary - first, 0, width), .vocabulary = vocabulary};
  scratch->Need(Use::kInput, 3 * rows * SizeOf(dtype_));
}

void GridCrossEntropy::Forward(const LayerContext& context, const Tensor& logits, const ConstTensor& labels) const {
  Stream& stream = context.stream();
  const StageContext& stage = *context.stage;
  const std::int64_t first_row = grid_->coordinate(along_ == Axis::kY ? Axis::kX : Axis::kY) * rows_;
  const std::int32_t* all_labels = labels.as<std::int32_t>();
  const ConstTensor own_labels(all_labels == nullptr ? nullptr : all_labels + first_row, DType::kI32, {rows_});
  const Tensor largest = scratch_->View(context, Use::kInput, {dtype_, {rows_}});
  const Tensor sums = scratch_->View(context, Use::kInput, {dtype_, {2, rows_}}, largest.bytes());
  Communicator* along = grid_->along(along_);
  RowLargest(stream, {.logits = logits, .part = part_, .largest = largest});
  AllReduceAlong(stream, along, largest, Fold::kLargest, Tag::kLoss);
  RowExpSums(stream, {.logits = logits, .labels = own_labels, .largest = largest, .part = part_, .sums = sums});
  AllReduceAlong(stream, along, sums, Fold::kSum, Tag::kLoss);
  CrossEntropyPart(stream, {.logits = logits,
                            .labels = own_labels,
                            .largest = largest,
                            .sums = sums,
                            .part = part_,
                            .scale = stage.gradient_scale,
                            .dlogits = stage.training ? logits : Tensor{},
                            .sample_losses = stage.sample_losses,
                            .sample_hits = stage.sample_hits,
                            .samples = labels.elements() / length_,
                            .reports = grid_->coordinate(along_) == 0,  // all ranks along y know these rows
                            .first_row = first_row,
                            .length = length_});
}

void SumLoss(Stream& stream, const Grid& grid, const Tensor& loss) {
  AllReduceAlong(stream, grid.along(GridGroup::kZX), loss, Fold::kSum, Tag::kLoss);
}

}  // namespace lycia
