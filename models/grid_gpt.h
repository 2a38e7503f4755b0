// The language models of gpt.h on a tensor grid: its layers with every operand cut by (x, y, z). Same names, initial values, random keys
// and results.
#ifndef LYCIA_MODELS_GRID_GPT_H_
#define LYCIA_MODELS_GRID_GPT_H_

#include <memory>
#include <vector>

#include "models/gpt.h"
#include "parallel/grid/grid_layer.h"
#include "parallel/grid/linear.h"
#include "parallel/grid/sizes.h"

namespace lycia {

struct GridGptOptions {
  GptConfig model;
  const Grid* grid = nullptr;  // outlives the layers
  std::int64_t samples = 0;    // of a micro-batch, on all z together
  std::int64_t sequence = 0;   // T
  GridPolicy policy;
  // Weights are gathered and their gradients reduced once a step instead of for every micro-batch (StepExchange).
  bool weights_each_step = false;
  // Embedding and tied head are in one stage: one reduce-scatter sums both gradients.
  bool tied_in_one_stage = true;
};

// A micro-batch as one rank sees it. Layers find its global samples from StageContext::samples, which is that of all z.
struct GridGptShape {
  GridGptOptions options;
  GridSizes sizes;

  const Grid& grid() const { return *options.grid; }
  std::int64_t coordinate(Axis axis) const { return options.grid->coordinate(axis); }
  // Which of the (y, x) parts of the heads is this rank's; y is slow.
  std::int64_t head_part() const { return coordinate(Axis::kY) * options.grid->size(Axis::kX) + coordinate(Axis::kX); }
  std::int64_t first_sample(const StageContext& stage) const { return stage.samples.begin + coordinate(Axis::kZ) * sizes.samples; }
  // Tokens [rows_zy] of this (z, y) × features of this x.
  TensorSpec Residual(DType dtype) const { return {dtype, {sizes.rows_zy, sizes.features}}; }
  // The head leaves its summand of the tied table's gradient to the embedding, so that one reduce-scatter along z sums both.
  bool hands_over() const {
    return options.model.tied && options.tied_in_one_stage && !options.weights_each_step && options.grid->size(Axis::kZ) > 1;
  }
  // Broken promise: a call for a part of a micro-batch.
  void CheckWhole(const Tensor& residual) const { LYCIA_CHECK_EQ(residual.shape[0], sizes.rows_zy); }
  // Tokens of this (z, y), counted from the first of this z.
  std::int64_t first_row() const { return coordinate(Axis::kY) * sizes.rows_zy; }
};
inline constexpr Sharding kResidualSharding{.x = Spread::kColumns, .y = Spread::kRows, .z = Spread::kRows};

// InvalidArgument with the numbers for sizes that do not fit the model or the grid.
StatusOr<GridGptShape> FitGpt(const GridGptOptions& options);
// 2 L + 2 fresh layers: embedding, h.0.attn, h.0.mlp, ..., head. The input of the first is tokens [samples / |z|, T] i32 of this z; labels
// likewise. What passes between layers is the residual. A call is for a whole micro-batch: tokens of a part of its samples do not lie
// together on one (z, y), so schedules that divide micro-batches into parts do not run on a grid.
StatusOr<std::vector<std::unique_ptr<GridLayer>>> GridGptLayers(const GridGptOptions& options);

}  // namespace lycia

#endif  // LYCIA_MODELS_GRID_GPT_H_
