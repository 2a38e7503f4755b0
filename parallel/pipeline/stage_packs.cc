#include "parallel/pipeline/stage_packs.h"

#include "parallel/pipeline/stage.h"

namespace lycia {
namespace {

std::int64_t BytesOf(const LayerPlan::PackedSpec& spec, const LayerPlan& plan, DeviceKind device) {
  return PaddedBytes(PackedMatrixBytes(device, plan.compute(), spec.k(), spec.n()));
}
std::int64_t BytesOf(const LayerPlan::PackedConvSpec& spec, const LayerPlan& plan, DeviceKind device) {
  return PaddedBytes(PackedConvBytes(device, plan.compute(), spec.use, spec.shape));
}

ConstMatrix BlockOf(const Tensor& weight, const LayerPlan::WeightBlock& block) {
  const char* data = static_cast<const char*>(weight.data);
  if (data != nullptr) data += block.offset * SizeOf(weight.dtype);
  return {data, weight.dtype, block.rows, block.columns, block.ld};
}

}  // namespace

std::int64_t StagePacks::Bytes(std::span<const LayerPlan> plans, DeviceKind device) {
  std::int64_t bytes = 0;
  for (const LayerPlan& plan : plans) {
    for (const LayerPlan::PackedSpec& spec : plan.packed()) bytes += BytesOf(spec, plan, device);
    for (const LayerPlan::PackedConvSpec& spec : plan.packed_convs()) bytes += BytesOf(spec, plan, device);
  }
  return bytes;
}

void StagePacks::Bind(std::span<const LayerPlan> plans, DeviceKind device, void* memory) {
  plans_ = plans;
  char* next = static_cast<char*>(memory);
  for (const LayerPlan& plan : plans) {
    std::vector<PackedMatrix>& matrices = matrices_.emplace_back();
    std::vector<PackedConvWeight>& convs = convs_.emplace_back();
    if (next == nullptr) continue;
    for (const LayerPlan::PackedSpec& spec : plan.packed()) {
      matrices.push_back({next, plan.compute(), spec.k(), spec.n()});
      next += BytesOf(spec, plan, device);
    }
    for (const LayerPlan::PackedConvSpec& spec : plan.packed_convs()) {
      convs.push_back({.data = next, .dtype = plan.compute(), .use = spec.use, .shape = spec.shape});
      next += BytesOf(spec, plan, device);
    }
  }
}

void StagePacks::Refresh(Stream& stream, std::span<const std::vector<Tensor>> parameters) {
  if (!stale_) return;
  stale_ = false;
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    const auto weight = [&](ParameterHandle handle) { return parameters[i][static_cast<std::size_t>(handle.index)]; };
    const std::vector<LayerPlan::PackedSpec>& specs = plans_[i].packed();
    for (std::size_t p = 0; p < matrices_[i].size(); ++p) {
      PackMatrix(stream,
                 {.b = BlockOf(weight(specs[p].weight), specs[p].block), .transpose_b = specs[p].transposed, .to = matrices_[i][p]});
    }
    const std::vector<LayerPlan::PackedConvSpec>& of_convs = plans_[i].packed_convs();
    for (std::size_t p = 0; p < convs_[i].size(); ++p) {
      PackConvWeight(stream, {.weight = weight(of_convs[p].weight), .to = convs_[i][p]});
    }
  }
}

}  // namespace lycia
