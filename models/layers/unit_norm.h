// UnitNorm: the batch norm of a convolution with what follows it, as a part of a layer, whole or on a tensor grid:
//   out = ReLU(norm(convolved) + residual), each of residual and ReLU if asked for.
// In training over fixed groups of samples (kernels/norm/batch_norm.h), whose statistics the step merges into running ones once; a group
// lies whole on a rank, with all pixels of its channels, so nothing is moved.
#ifndef LYCIA_MODELS_LAYERS_UNIT_NORM_H_
#define LYCIA_MODELS_LAYERS_UNIT_NORM_H_

#include <string>

#include "parallel/layer/layer.h"

namespace lycia {

class UnitNorm {
 public:
  struct Args {
    std::string name;             // NAME.running_mean, NAME.running_var
    ParameterHandle gamma, beta;  // [K]
    std::int64_t samples = 1;     // of a group; divides those of `images`
    double momentum = 0.1;
    bool relu = true;
    TensorSpec images;  // [N, P, Q, K] of this rank
    // On a grid: the place of the first of `images` among the samples of the micro-batch, and the ranks that observe the others
    // (StateSpec::along).
    std::int64_t first_sample = 0;
    int along = -1;
  };
  void Plan(const Args& args, LayerPlan& plan);

  // [N, P, Q, K] before the norm: where a training step's convolution writes. Kept until BackwardInput.
  const Tensor& Convolved(const LayerContext& context) const { return context.keep(convolved_); }
  // Of Convolved. residual: absent when data is null, and so below.
  void Forward(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const;
  // With the running statistics, in place or as a convolution's epilogue: scale and bias [K].
  void Evaluate(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const;
  void Fold(const LayerContext& context, const Tensor& scale, const Tensor& bias) const;

  struct InputGradient {
    ConstTensor dout, out;  // out of the forward; not read without a ReLU
    Tensor dconvolved;      // =
    Tensor dresidual;       // =; absent when data is null
  };
  void BackwardInput(const LayerContext& context, const InputGradient& args) const;
  void BackwardWeight(const LayerContext& context) const;
  void MergeStates(const LayerContext& context) const;

 private:
  // The rows of an observation that are of this rank's samples.
  Tensor OwnRows(const Tensor& observation, const Tensor& statistics) const;

  Args args_;
  StateHandle running_mean_, running_variance_;
  KeptHandle convolved_, mean_, rstd_;  // [N, P, Q, K], [G, K], [G, K]
  HandoffHandle sum_d_, sum_dn_;        // [G, K]
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_UNIT_NORM_H_
