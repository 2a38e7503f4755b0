// Layer norm on the grid: a rank holds some tokens (z, y) and some features (x). Two numbers a row are gathered along x, forward and
// backward; nothing moves where x is 1, and then the plain kernels run.
#ifndef LYCIA_PARALLEL_GRID_NORM_H_
#define LYCIA_PARALLEL_GRID_NORM_H_

#include "parallel/grid/grid.h"
#include "parallel/grid/scratch.h"
#include "parallel/layer/layer.h"

namespace lycia {

class GridNorm {
 public:
  GridNorm() = default;
  // gamma, beta: working copies of this rank's features. Keeps mean and rstd [rows] of each micro-batch.
  GridNorm(const Grid& grid, std::int64_t rows, ParameterHandle gamma, ParameterHandle beta, LayerPlan& plan, GridScratch* scratch);

  void Forward(const LayerContext& context, const ConstTensor& in, const Tensor& out) const;  // [rows, features]
  // din (+)= ; accumulate where the residual connection has brought its gradient already.
  void BackwardInput(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout, const Tensor& din, bool accumulate) const;
  // The gradients of gamma and beta are summands over (z, y).
  void BackwardWeight(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout) const;

 private:
  // Two numbers of each row and part of the features: the whole [parts, rows, 2], and this rank's in it.
  Tensor AllParts(const LayerContext& context) const;
  Tensor OwnPart(const Tensor& all) const;
  void GatherParts(const LayerContext& context, const Tensor& all) const;

  const Grid* grid_ = nullptr;
  std::int64_t rows_ = 0;
  DType dtype_ = DType::kF32;  // of statistics
  ParameterHandle gamma_, beta_;
  KeptHandle mean_, rstd_;
  GridScratch* scratch_ = nullptr;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_NORM_H_
