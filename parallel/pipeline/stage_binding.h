// The tensors of a stage's layers in one call: first in their shapes, then pointed at the memory of the call's slots.
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_BINDING_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_BINDING_H_

#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "parallel/pipeline/stage_layout.h"
#include "runtime/core/tensor.h"

namespace lycia {

// Of one layer.
struct LayerBinding {
  std::vector<Tensor> in, out, dout, din, kept, handoffs, scratch;
  Tensor labels;
};

// By layer, without memory, in the shapes of one of `parts` parts of a micro-batch. edges, labels: as LayOut's.
std::vector<LayerBinding> ShapesOfLayers(std::span<const LayerPlan> plans, std::span<const std::vector<TensorSpec>> edges,
                                         const TensorSpec& labels, int parts);

// Points all but labels at their places. base: where an area of the call's slots begins; null: there is no memory.
void PointLayers(std::vector<LayerBinding>& layers, const StageLayout::Places& places, int part, absl::FunctionRef<char*(Area)> base);

// Points tensors at a list of them that is laid out as PackedBytes says; null: there is no memory.
void Unpack(std::vector<Tensor>& tensors, void* list);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_BINDING_H_
