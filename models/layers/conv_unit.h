// ConvUnit: a convolution and what follows it, as a part of a layer:
//   out = ReLU(norm(conv(in)) + residual), each of norm, residual and ReLU if asked for.
// In training norm is a batch norm over fixed groups of samples (kernels/norm/batch_norm.h), whose statistics the step merges into running
// ones once; in evaluation these are folded into the convolution, which then writes out in one pass.
#ifndef LYCIA_MODELS_LAYERS_CONV_UNIT_H_
#define LYCIA_MODELS_LAYERS_CONV_UNIT_H_

#include <string>

#include "kernels/conv/conv.h"
#include "models/layers/reused_patches.h"
#include "models/layers/unit_norm.h"
#include "parallel/layer/layer.h"

namespace lycia {

class ConvUnit {
 public:
  struct Options {
    std::string name;  // NAME.weight [K, R, S, C / groups], initially normal with variance 2 / (K R S); NAME.bias
    std::string norm;  // NORM.weight, .bias, .running_mean, .running_var; "": no batch norm
    std::int64_t filters = 1, filter = 1, stride = 1, groups = 1;  // padded by filter / 2 on each side
    bool bias = false;                                             // without a norm
    bool relu = true;
    std::int64_t norm_samples = 1;
    double norm_momentum = 0.1;
    bool input_gradient = true;  // false: nobody asks for that of `in`
    ReuseOptions reuse;          // of patches, where it applies to `name`
  };
  explicit ConvUnit(Options options) : options_(std::move(options)) {}

  // in [N, H, W, C]; returns out [N, P, Q, K]. in must be kept until BackwardWeight, out, where there is a ReLU, until BackwardInput.
  StatusOr<TensorSpec> Plan(const TensorSpec& in, LayerPlan& plan);

  void Forward(const LayerContext& context, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) const;

  struct InputGradient {
    ConstTensor dout, out;    // out of the forward; not read without a ReLU
    Tensor din;               // absent when data is null
    bool accumulate = false;  // din += instead of din =
    Tensor dresidual;         // =; absent when data is null; only with a norm
  };
  void BackwardInput(const LayerContext& context, const InputGradient& args) const;
  void BackwardWeight(const LayerContext& context, const ConstTensor& in) const;
  void MergeStates(const LayerContext& context) const;

 private:
  bool normed() const { return !options_.norm.empty(); }
  ConvShape ShapeFor(const Shape& in) const;
  // out = what follows a product alone: bias and ReLU where there is no norm.
  void Convolve(const LayerContext& context, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) const;
  void Evaluate(const LayerContext& context, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) const;

  Options options_;
  ConvShape shape_;
  ParameterHandle weight_, bias_;
  UnitNorm norm_;
  HandoffHandle dconvolved_;  // [N, P, Q, K]
  ScratchHandle folded_;      // [2, K], scale and bias of an evaluation
  PackedConvHandle packed_, packed_back_;
  ReusedPatches reuse_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_CONV_UNIT_H_
