#include "parallel/pipeline/stage_binding.h"

#include "parallel/pipeline/stage.h"

namespace lycia {
namespace {

// Unbound tensors of one part of each spec.
std::vector<Tensor> PartsOf(std::span<const TensorSpec> specs, int parts) {
  std::vector<Tensor> tensors;
  for (const TensorSpec& spec : specs) tensors.push_back({nullptr, spec.dtype, PartOf(spec, parts).shape});
  return tensors;
}

bool IsFloat(std::span<const TensorSpec> specs) {
  if (specs.empty()) return false;
  const DType dtype = specs[0].dtype;
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32 || dtype == DType::kF64;
}

// Points tensors at their places: the part of the samples, or the whole.
void PointAt(std::vector<Tensor>& tensors, const std::vector<Place>& places, int part, absl::FunctionRef<char*(Area)> base) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    char* at = base(places[i].area);
    tensors[i].data = at == nullptr ? nullptr : at + places[i].offset + part * tensors[i].bytes();
  }
}

}  // namespace

std::vector<LayerBinding> ShapesOfLayers(std::span<const LayerPlan> plans, std::span<const std::vector<TensorSpec>> edges,
                                         const TensorSpec& labels, int parts) {
  std::vector<LayerBinding> layers(plans.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    LayerBinding& b = layers[i];
    b.in = PartsOf(edges[i], parts);
    b.out = PartsOf(edges[i + 1], parts);
    b.dout = b.out;
    if (IsFloat(edges[i])) b.din = b.in;
    for (const LayerPlan::Kept& kept : plans[i].kept()) b.kept.push_back({nullptr, kept.spec.dtype, PartOf(kept.spec, parts).shape});
    b.handoffs = PartsOf(plans[i].handoffs(), parts);
    for (const auto& [spec, workspace] : plans[i].scratch()) {
      b.scratch.push_back({nullptr, spec.dtype, workspace ? spec.shape : PartOf(spec, parts).shape});
    }
    if (plans[i].reads_labels()) b.labels = {nullptr, labels.dtype, PartOf(labels, parts).shape};
  }
  return layers;
}

void PointLayers(std::vector<LayerBinding>& layers, const StageLayout::Places& places, int part, absl::FunctionRef<char*(Area)> base) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    LayerBinding& b = layers[i];
    PointAt(b.in, places.in[i], part, base);
    PointAt(b.out, places.out[i], part, base);
    PointAt(b.dout, places.dout[i], part, base);
    PointAt(b.din, places.din[i], part, base);
    PointAt(b.kept, places.kept[i], part, base);
    PointAt(b.handoffs, places.handoffs[i], part, base);
    PointAt(b.scratch, places.scratch[i], /*part=*/0, base);  // transient: no other part's samples are there
  }
}

void Unpack(std::vector<Tensor>& tensors, void* list) {
  std::int64_t offset = 0;
  for (Tensor& tensor : tensors) {
    tensor.data = list == nullptr ? nullptr : static_cast<char*>(list) + offset;
    offset += PaddedBytes(tensor.bytes());
  }
}

}  // namespace lycia
