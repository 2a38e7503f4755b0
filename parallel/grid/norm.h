// Layer or RMS norm on the grid: a rank holds some tokens (z, y) and some features (x). Two numbers a row, or one, are gathered along x,
// forward and backward; nothing moves where x is 1, and then the plain kernels run.
#ifndef LYCIA_PARALLEL_GRID_NORM_H_
#define LYCIA_PARALLEL_GRID_NORM_H_

#include "parallel/grid/grid.h"
#include "parallel/grid/scratch.h"
#include "parallel/layer/layer.h"

namespace lycia {

class GridNorm {
 public:
  struct Args {
    const Grid* grid = nullptr;
    std::int64_t rows = 0;        // of one (z, y)
    ParameterHandle gamma, beta;  // working copies of this rank's features; beta not declared: RMS norm
    double eps = 1e-5;
  };
  GridNorm() = default;
  // Keeps rstd [rows] of each micro-batch, and mean of a layer norm.
  GridNorm(const Args& args, LayerPlan& plan, GridScratch* scratch);

  void Forward(const LayerContext& context, const ConstTensor& in, const Tensor& out) const;  // [rows, features]
  // din (+)= ; accumulate where the residual connection has brought its gradient already.
  void BackwardInput(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout, const Tensor& din, bool accumulate) const;
  // The gradients of gamma and beta are summands over (z, y).
  void BackwardWeight(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout) const;

 private:
  bool rms() const { return args_.beta.index < 0; }
  // [rows]; absent of an RMS norm.
  Tensor Mean(const LayerContext& context) const { return rms() ? Tensor() : context.keep(mean_); }
  // The numbers of each row and part of the features: the whole [parts, rows, 2], or [parts, rows, 1], and this rank's in it.
  Tensor AllParts(const LayerContext& context) const;
  Tensor OwnPart(const Tensor& all) const;
  void GatherParts(const LayerContext& context, const Tensor& all) const;

  Args args_;
  DType dtype_ = DType::kF32;  // of statistics
  KeptHandle mean_, rstd_;
  GridScratch* scratch_ = nullptr;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_NORM_H_
