// ReusedPatches: the patches of a convolution's input, of which equal or alike ones are computed once.
//
// With a partition of the patches x_m in clusters of n_j, and c_j [R S C] what stands for cluster j, out_m = c_id(m) Wᵀ (+ bias ...).
//   exact          c_j = x_m for all its members, read from the image where it lies: out has the bits of the dense convolution. Gradients:
//                  dW from segment sums of dout, equal but for the order of sums; din passes straight through, as in the dense convolution.
//   quantized, lsh c_j = the mean of its members, written out: R S times the image at most, so that it is made again for dW and not kept.
//                  With the partition held fixed this is a function with an exact gradient: dW = Sᵀ c, S the sums of dout by cluster; and
//                  dx_m = (S_id(m) / n_id(m)) W, whose pixels overlap like the patches: din is the dense convolution's, of the mean of dout
//                  over each position's cluster (Ning & Shen, ICDE 2019; kernels/reuse/patch_means.h).
#ifndef LYCIA_MODELS_LAYERS_REUSED_PATCHES_H_
#define LYCIA_MODELS_LAYERS_REUSED_PATCHES_H_

#include <string>

#include "kernels/conv/conv.h"
#include "kernels/reuse/index_map.h"
#include "kernels/reuse/mapped_conv.h"
#include "parallel/layer/layer.h"

namespace lycia {

class ReusedPatches {
 public:
  struct Options {
    std::string layer;
    ReusePolicy policy = ReusePolicy::kExact;  // of some steps; others may be exact
    ConvShape shape;                           // of a micro-batch; one group
    bool input_gradient = true;                // somebody asks for that of the input
  };
  // Not called: nothing is reused.
  void Plan(const Options& options, LayerPlan& plan);

  // Whether this step computes one patch a cluster. An evaluation is dense.
  bool reuses(const LayerContext& context) const {
    return planned_ && context.stage->training && context.reuse(slot_).use == ReuseUse::kReuse;
  }

  // Finds the clusters where this step wants to know them, and their means. In the forward, before the convolution, in one call with it.
  void Find(const LayerContext& context, const ConvShape& shape, const ConstTensor& in) const;
  // Only where reuses(). args: all but the map and c, and no scale. out [N, P, Q, K] =.
  void Forward(const LayerContext& context, MappedConvForwardArgs args, const Tensor& out) const;
  // What the input's gradient is made of instead of dout [N, P, Q, K]: dout, or the means over each position's cluster. Anywhere.
  ConstTensor OutputGradient(const LayerContext& context, const ConstTensor& dout) const;
  void BackwardWeight(const LayerContext& context, const ConvBackwardWeightArgs& args) const;

 private:
  IndexMap Map(const LayerContext& context) const;
  bool takes_means(const LayerContext& context) const { return context.reuse(slot_).rule.policy != ReusePolicy::kExact; }
  // Of in's patches; meter: null or on the device.
  void Means(const LayerContext& context, const ConvShape& shape, const ConstTensor& in, ReuseMeter* meter) const;
  // dweight (+)= the gradient from sums of dout by cluster.
  void Multiply(const LayerContext& context, const ConvBackwardWeightArgs& args, const Tensor& sums, const Tensor& dweight) const;

  bool planned_ = false;
  std::int64_t patches_of_sample_ = 0;
  ReuseHandle slot_;
  KeptHandle map_;          // [N, bytes] u8
  ScratchHandle clusters_;  // [N, P, Q, K]
  ScratchHandle means_;     // [N, P Q, R S C]; declared, and used, where a step may take means
  ScratchHandle spread_;    // [N, P, Q, K]; the same, where somebody asks for the input's gradient
  ScratchHandle workspace_, meter_, probe_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_REUSED_PATCHES_H_
