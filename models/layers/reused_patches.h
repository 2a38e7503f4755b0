// ReusedPatches: the patches of a convolution's input, of which equal or alike ones are computed once.
//
// out at position m is that at the first position of m's cluster. exact: the bits of the dense convolution. Gradients: dW from segment sums
// of dout, equal (exact) but for the order of sums, else exact for that function of W; din passes straight through, as in the dense
// convolution, since neighbouring patches share pixels.
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
  // One group. Not called: nothing is reused.
  void Plan(const std::string& layer, ReusePolicy policy, const ConvShape& shape, LayerPlan& plan);

  // Whether this step computes one patch a cluster. An evaluation is dense.
  bool reuses(const LayerContext& context) const {
    return planned_ && context.stage->training && context.reuse(slot_).use == ReuseUse::kReuse;
  }

  // Finds the clusters where this step wants to know them. In the forward, before the convolution.
  void Find(const LayerContext& context, const ConvShape& shape, const ConstTensor& in) const;
  // Only where reuses(). args: all but the map and c. out [N, P, Q, K] =.
  void Forward(const LayerContext& context, MappedConvForwardArgs args, const Tensor& out) const;
  void BackwardWeight(const LayerContext& context, const ConvBackwardWeightArgs& args) const;

 private:
  IndexMap Map(const LayerContext& context) const;

  bool planned_ = false;
  std::int64_t patches_of_sample_ = 0;
  ReuseHandle slot_;
  KeptHandle map_;          // [N, bytes] u8
  ScratchHandle clusters_;  // [N, P, Q, K]
  ScratchHandle workspace_, meter_, probe_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_REUSED_PATCHES_H_
