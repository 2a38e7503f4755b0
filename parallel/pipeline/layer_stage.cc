#include "parallel/pipeline/layer_stage.h"

#include <algorithm>
#include <utility>

#include "runtime/device/arena.h"

namespace lycia {
namespace {

std::int64_t Padded(std::int64_t bytes) { return (bytes + ArenaPlan::kAlignment - 1) / ArenaPlan::kAlignment * ArenaPlan::kAlignment; }

std::vector<TensorSpec> SpecsOf(const std::vector<LayerPlan::Kept>& kept) {
  std::vector<TensorSpec> specs;
  for (const LayerPlan::Kept& k : kept) specs.push_back(k.spec);
  return specs;
}

// Views of a packed list; data stays nullptr on a device without data.
std::vector<Tensor> Unpack(std::span<const TensorSpec> specs, void* base) {
  std::vector<Tensor> tensors;
  std::int64_t offset = 0;
  for (const TensorSpec& spec : specs) {
    tensors.push_back({base == nullptr ? nullptr : static_cast<char*>(base) + offset, spec.dtype, spec.shape});
    offset += Padded(spec.bytes());
  }
  return tensors;
}

// Points an already unpacked list at other memory.
void Rebase(std::vector<Tensor>& tensors, void* base) {
  std::int64_t offset = 0;
  for (Tensor& tensor : tensors) {
    tensor.data = base == nullptr ? nullptr : static_cast<char*>(base) + offset;
    offset += Padded(tensor.bytes());
  }
}

bool IsFloat(std::span<const TensorSpec> specs) {
  return !specs.empty() && (specs[0].dtype == DType::kF32 || specs[0].dtype == DType::kF64);
}

}  // namespace

std::int64_t PackedBytes(std::span<const TensorSpec> specs) {
  std::int64_t bytes = 0;
  for (const TensorSpec& spec : specs) bytes += Padded(spec.bytes());
  return bytes;
}

StatusOr<std::unique_ptr<LayerStage>> LayerStage::Create(std::vector<std::unique_ptr<Layer>> layers, std::vector<TensorSpec> inputs,
                                                         const Options& options) {
  std::unique_ptr<LayerStage> stage(new LayerStage(options));
  stage->edges_.push_back(std::move(inputs));
  for (std::unique_ptr<Layer>& layer : layers) {
    LayerPlan plan(options.compute);
    StatusOr<std::vector<TensorSpec>> out = layer->Plan(stage->edges_.back(), plan);
    if (!out.ok()) return Annotate(out.status(), layer->name());
    stage->edges_.push_back(*std::move(out));
    if (plan.reads_labels()) stage->labels_ = plan.labels();
    stage->plans_.push_back(std::move(plan));
    stage->layers_.push_back(std::move(layer));
  }
  stage->LayOut();
  return stage;
}

std::vector<ParameterSpec> LayerStage::parameters() const {
  std::vector<ParameterSpec> all;
  for (const LayerPlan& plan : plans_) all.insert(all.end(), plan.parameters().begin(), plan.parameters().end());
  return all;
}

double LayerStage::forward_flops() const {
  double flops = 0;
  for (const LayerPlan& plan : plans_) flops += plan.forward_flops();
  return flops;
}

// Decides for every tensor list whether it lives in the stash slot or in transient memory, and where.
//   stash      input, labels, what Recompute says is kept; handoffs when the backward is split
//   transient  [two edges][two edge gradients][recomputed tensors][handoffs][scratch]
void LayerStage::LayOut() {
  const std::size_t num_layers = layers_.size();
  std::int64_t stash = 0;
  auto in_stash = [&stash](std::int64_t bytes) {
    const Place place{false, stash};
    stash += bytes;
    return place;
  };
  edge_place_.assign(num_layers + 1, {});
  edge_place_[0] = in_stash(PackedBytes(edges_[0]));
  input_offset_ = edge_place_[0].offset;
  if (reads_labels()) labels_offset_ = in_stash(Padded(labels_.bytes())).offset;

  std::int64_t widest_edge = 0, widest_handoff = 0, widest_scratch = 0, widest_kept = 0;
  for (std::size_t i = 0; i <= num_layers; ++i) widest_edge = std::max(widest_edge, PackedBytes(edges_[i]));
  for (std::size_t i = 0; i < num_layers; ++i) {
    widest_kept = std::max(widest_kept, PackedBytes(SpecsOf(plans_[i].kept())));
    widest_handoff = std::max(widest_handoff, PackedBytes(plans_[i].handoffs()));
    widest_scratch = std::max(widest_scratch, PackedBytes(plans_[i].scratch()));
  }
  std::int64_t transient = 4 * widest_edge;
  auto in_transient = [&transient](std::int64_t bytes) {
    const Place place{true, transient};
    transient += bytes;
    return place;
  };
  const Place shared_kept = options_.recompute == Recompute::kLayers ? in_transient(widest_kept) : Place{};
  kept_place_.assign(num_layers, {});
  for (std::size_t i = 0; i < num_layers; ++i) {
    if (i > 0) {
      const std::int64_t bytes = PackedBytes(edges_[i]);
      if (options_.recompute == Recompute::kStage) {
        edge_place_[i] = in_transient(bytes);
      } else if (options_.recompute == Recompute::kLayers || plans_[i].keeps_input()) {
        edge_place_[i] = in_stash(bytes);
      } else {
        edge_place_[i] = {true, static_cast<std::int64_t>(i % 2) * widest_edge};
      }
    }
    const std::int64_t kept = PackedBytes(SpecsOf(plans_[i].kept()));
    switch (options_.recompute) {
      case Recompute::kNone:
        kept_place_[i] = in_stash(kept);
        break;
      case Recompute::kLayers:
        kept_place_[i] = shared_kept;
        break;
      case Recompute::kStage:
        kept_place_[i] = in_transient(kept);
        break;
    }
  }
  edge_place_[num_layers] = {true, static_cast<std::int64_t>(num_layers % 2) * widest_edge};
  const Place shared_handoff = options_.split_backward ? Place{} : in_transient(widest_handoff);
  handoff_place_.assign(num_layers, shared_handoff);
  if (options_.split_backward) {
    for (std::size_t i = 0; i < num_layers; ++i) handoff_place_[i] = in_stash(PackedBytes(plans_[i].handoffs()));
  }
  scratch_place_.assign(num_layers, in_transient(widest_scratch));
  for (std::size_t i = 0; i <= num_layers; ++i) gradient_place_.push_back({true, static_cast<std::int64_t>(2 + i % 2) * widest_edge});
  stash_bytes_ = stash;
  transient_bytes_ = transient;
}

void LayerStage::Bind(const Memory& memory) {
  slots_ = memory.stash;
  transient_ = memory.transient;
  bindings_.assign(slots_.size(), std::vector<Binding>(layers_.size()));
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    auto at = [&](const Place& place) { return At(place.transient ? memory.transient : slots_[slot], place.offset); };
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      Binding& b = bindings_[slot][i];
      b.in = Unpack(edges_[i], at(edge_place_[i]));
      b.out = Unpack(edges_[i + 1], at(edge_place_[i + 1]));
      b.dout = Unpack(edges_[i + 1], at(gradient_place_[i + 1]));
      if (IsFloat(edges_[i])) b.din = Unpack(edges_[i], at(gradient_place_[i]));
      for (const ParameterSpec& spec : plans_[i].parameters()) {
        b.parameters.push_back(memory.weight(spec.name));
        b.gradients.push_back(memory.gradient ? memory.gradient(spec.name, spec.use) : Tensor{});
      }
      b.kept = Unpack(SpecsOf(plans_[i].kept()), at(kept_place_[i]));
      b.handoffs = Unpack(plans_[i].handoffs(), at(handoff_place_[i]));
      b.scratch = Unpack(plans_[i].scratch(), at(scratch_place_[i]));
      if (plans_[i].reads_labels()) b.labels = {At(slots_[slot], labels_offset_), labels_.dtype, labels_.shape};
    }
  }
}

LayerContext LayerStage::Context(StageContext& context, int slot, std::size_t layer) {
  const Binding& b = bindings_[static_cast<std::size_t>(slot)][layer];
  return {&context, b.in, b.out, b.dout, b.din, b.parameters, b.gradients, b.kept, b.handoffs, b.scratch, b.labels};
}

void LayerStage::RunForward(StageContext& context, int slot, std::size_t layer) { layers_[layer]->Forward(Context(context, slot, layer)); }

void LayerStage::Forward(StageContext& context, int slot, void* out) {
  Rebase(bindings_[static_cast<std::size_t>(slot)].back().out, out);
  for (std::size_t i = 0; i < layers_.size(); ++i) RunForward(context, slot, i);
}

void LayerStage::Backward(StageContext& context, int slot, const void* dout, void* din) {
  BackwardLayers(context, slot, dout, din, /*input=*/true, /*weight=*/true);
}

void LayerStage::BackwardInput(StageContext& context, int slot, const void* dout, void* din) {
  LYCIA_CHECK(options_.split_backward) << "the stage was planned for full backwards only ";
  BackwardLayers(context, slot, dout, din, /*input=*/true, /*weight=*/false);
}

void LayerStage::BackwardWeight(StageContext& context, int slot) {
  LYCIA_CHECK(options_.split_backward) << "the stage was planned for full backwards only ";
  BackwardLayers(context, slot, nullptr, nullptr, /*input=*/false, /*weight=*/true);
}

void LayerStage::BackwardLayers(StageContext& context, int slot, const void* dout, void* din, bool input, bool weight) {
  std::vector<Binding>& bindings = bindings_[static_cast<std::size_t>(slot)];
  if (input) {
    Rebase(bindings.back().dout, const_cast<void*>(dout));  // layers only read dout
    Rebase(bindings.front().din, din);
  }
  if (options_.recompute != Recompute::kNone) Rebase(bindings.back().out, At(transient_, edge_place_.back().offset));
  if (options_.recompute == Recompute::kStage) {
    for (std::size_t i = 0; i < layers_.size(); ++i) RunForward(context, slot, i);
  }
  for (std::size_t i = layers_.size(); i-- > 0;) {
    if (options_.recompute == Recompute::kLayers) RunForward(context, slot, i);
    const LayerContext layer = Context(context, slot, i);
    if (input) layers_[i]->BackwardInput(layer);
    if (weight) layers_[i]->BackwardWeight(layer);
  }
}

}  // namespace lycia
