// What knows the vocabulary: the embedding, which is a product with one-hot rows (roles R = z, K = y, N = x), and cross entropy on logits
// whose tokens are split by (z, x) and whose vocabulary is split by y. Both use one block of the table, E[y, x], so a tied head needs no
// re-layout.
#ifndef LYCIA_PARALLEL_GRID_VOCABULARY_H_
#define LYCIA_PARALLEL_GRID_VOCABULARY_H_

#include "kernels/parts/loss_part.h"
#include "parallel/grid/grid.h"
#include "parallel/grid/scratch.h"
#include "parallel/grid/weights.h"
#include "parallel/layer/layer.h"

namespace lycia {

class GridEmbedding {
 public:
  struct Args {
    const Grid* grid = nullptr;
    std::int64_t rows = 0;        // tokens of this z: m / |z|
    std::int64_t width = 0;       // features of this x
    std::int64_t vocabulary = 0;  // without padding
    GridWeight table;             // block [part of the vocabulary, width]
    bool overlap = true;          // GridPolicy::overlap
    // Where a tied head left its summand of the block's gradient; absent: index < 0.
    ParameterHandle handed_over;
  };
  GridEmbedding() = default;
  GridEmbedding(const Args& args, LayerPlan& plan, GridScratch* scratch);

  // For Layer::Fetch.
  TransferHandle transfer() const { return table_.transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { table_.Fetch(context, place); }

  // tokens [rows] i32 of this z -> out [rows / |y|, width] of this (z, y).
  void Forward(const LayerContext& context, const ConstTensor& tokens, const Tensor& out) const;
  // dout [rows / |y|, width]. One reduce-scatter, of the head's summand too.
  void BackwardWeight(const LayerContext& context, const ConstTensor& tokens, const ConstTensor& dout) const;

 private:
  bool tied() const { return args_.handed_over.index >= 0; }
  std::int64_t first() const { return args_.grid->coordinate(Axis::kY) * args_.table.parameter.block.num_rows(); }
  TensorSpec BlockSpec() const { return {dtype_, {args_.table.parameter.block.num_rows(), args_.width}}; }
  Tensor WholeRows(const LayerContext& context) const;

  Args args_;
  DType dtype_ = DType::kF32;
  GridScratch* scratch_ = nullptr;
  GridWeights table_;
  std::vector<std::int64_t> offsets_;
};

class GridCrossEntropy {
 public:
  GridCrossEntropy() = default;
  // rows: tokens of this (z, x); width: padded part of the vocabulary of this y; length: tokens of a sequence. With `along` x: the same
  // with x and y exchanged.
  GridCrossEntropy(const Grid& grid, std::int64_t rows, std::int64_t width, std::int64_t vocabulary, std::int64_t length, LayerPlan& plan,
                   GridScratch* scratch, Axis along = Axis::kY);

  // logits [rows, width]; labels [rows of this z] i32, of which this x reads its own. In training the logits become their gradient.
  // StageContext::sample_losses, of the samples of this z, gets this rank's share: the loss is the sum over the ranks of the grid.
  void Forward(const LayerContext& context, const Tensor& logits, const ConstTensor& labels) const;

 private:
  const Grid* grid_ = nullptr;
  Axis along_ = Axis::kY;
  std::int64_t rows_ = 0, length_ = 0;
  VocabularyPart part_;
  DType dtype_ = DType::kF32;
  GridScratch* scratch_ = nullptr;
};

// loss += over (z, x): what the shares of the ranks of one y add up to. [1] f32 or f64.
void SumLoss(Stream& stream, const Grid& grid, const Tensor& loss);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_VOCABULARY_H_
