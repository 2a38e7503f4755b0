// ReusedRows: the rows that a row-wise region of a layer begins with, of which equal or alike ones are computed once.
//
// What follows the rows x [M, K] is a function f of each row alone (products, GELU) until something mixes rows. With a partition of the
// rows in clusters of n_j and c_j their representative, f runs on U rows and its results are scattered: y_m = f(c_id(m)).
//   exact          c_j = x_m for all its members: y has the bits of the dense layer. Gradients: dW from segment sums of dy, equal but for
//                  the order of sums; dx_m by itself for each row, unless all that comes before is row-wise too (equal rows then came from
//                  one and the same, and only the sum of their gradients matters): then the mean is as good, and exact.
//   quantized, lsh c_j = the mean of its members. With the partition held fixed this is a function with the exact gradient
//                  dc_j = f'(c_j) applied to the sum of dy over the members, dx_m = dc_id(m) / n_id(m) (Ning & Shen, ICDE 2019).
#ifndef LYCIA_MODELS_LAYERS_REUSED_ROWS_H_
#define LYCIA_MODELS_LAYERS_REUSED_ROWS_H_

#include <optional>
#include <string>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/scatter.h"
#include "parallel/layer/layer.h"

namespace lycia {

class ReusedRows {
 public:
  struct Options {
    std::string name;                          // of the layer
    ReusePolicy policy = ReusePolicy::kExact;  // of some steps; others may be exact
    bool row_wise_before = false;              // up to the model's inputs
    std::vector<std::int64_t> widths;          // of the products that follow: x [M, K] -> [M, widths[0]] -> ... before rows are scattered
  };
  // rows [B, T, K]. Not called: every use below is the dense one.
  void Plan(const Options& options, const TensorSpec& rows, LayerPlan& plan);

  // Whether this step computes one row a cluster. An evaluation is dense.
  bool reuses(const LayerContext& context) const {
    return planned_ && context.stage->training && context.reuse(slot_).use == ReuseUse::kReuse;
  }
  bool planned() const { return planned_; }
  // Where reuses(): the gradient of x comes from segment sums of dy, through U rows.
  bool sums_suffice(const LayerContext& context) const {
    return context.reuse(slot_).rule.policy != ReusePolicy::kExact || options_.row_wise_before;
  }
  bool probes(const LayerContext& context) const { return reuses(context) && context.reuse(slot_).probe; }

  // Where the layer puts x: `kept` itself, or scratch from which Forward makes the rows that are kept.
  const Tensor& Rows(const LayerContext& context, const Tensor& kept) const { return reuses(context) ? scratch(context) : kept; }
  // [B, T, K], free between calls of this class; only where planned.
  const Tensor& scratch(const LayerContext& context) const { return context.temporary(rows_); }
  // After x is there: finds the clusters where this step wants to know them, and leaves their representatives in kept[0 .. U).
  void Forward(const LayerContext& context, const Tensor& kept) const;

  // The partition of this micro-batch; only where reuses().
  IndexMap Map(const LayerContext& context) const;
  // On U rows where reuses(), else on all.
  void Multiply(const LayerContext& context, const GemmArgs& args) const;
  // Only where reuses(): every row of y gets its cluster's row of the product; args.c is scratch.
  void MultiplyAndScatter(const LayerContext& context, const GemmArgs& args, const Tensor& y) const;
  // dW += xᵀ dy, or c ᵀ s.
  void WeightGradient(const LayerContext& context, const Tensor& x, const Tensor& dy, ParameterHandle weight) const;
  void BiasGradient(const LayerContext& context, const Tensor& dy, ParameterHandle bias) const;

  // Reports what the reused gradient of a weight's first columns is beside the dense one. a: xs, c [.., K]; b: dys, s [.., N]; columns
  // [0, ProbeColumns) of the gradient are compared.
  struct Probe {
    ConstMatrix dense_a, dense_b, reused_a, reused_b;
  };
  void Compare(const LayerContext& context, const Probe& probe) const;
  static constexpr std::int64_t kProbeColumns = 32;

 private:
  Options options_;
  bool planned_ = false;
  std::int64_t rows_of_sample_ = 0, map_bytes_ = 0;  // of a sample
  ReuseHandle slot_;
  KeptHandle map_;      // [B, bytes] u8
  ScratchHandle rows_;  // [B, T, K]
  ScratchHandle workspace_, meter_, probe_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_REUSED_ROWS_H_
