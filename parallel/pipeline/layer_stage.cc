#include "parallel/pipeline/layer_stage.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "runtime/core/check.h"

namespace lycia {
namespace {

// The rows that stand for the samples at hand, one for every `samples` of the global batch. No data in an evaluation.
Tensor RowsOf(const Tensor& all, std::int64_t samples, const SampleRange& range, bool training) {
  if (all.shape.rank() == 0) return {};
  Tensor rows{nullptr, all.dtype, {range.count / samples}};
  for (int i = 1; i < all.shape.rank(); ++i) rows.shape.push_back(all.shape.dim(i));
  if (training && all.data != nullptr) rows.data = static_cast<char*>(all.data) + range.begin / samples * (all.bytes() / all.shape.dim(0));
  return rows;
}

}  // namespace

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
  stage->layout_ =
      LayOut(stage->plans_, stage->edges_, stage->labels_,
             {.recompute = options.recompute, .full_backward = options.full_backward, .split_backward = options.split_backward});
  for (std::size_t i = 0; i < stage->plans_.size(); ++i) {
    if (stage->plans_[i].states().empty() || std::ranges::all_of(options.parts, [](int parts) { return parts == 1; })) continue;
    return InvalidArgument(stage->layers_[i]->name(),
                           " takes statistics over several samples, so that micro-batches cannot be divided; use a parallel.schedule that "
                           "keeps them whole");
  }
  stage->contexts_.resize(stage->layers_.size());
  stage->observed_.resize(stage->layers_.size());
  for (const int parts : options.parts) {
    stage->variants_.push_back({parts, ShapesOfLayers(stage->plans_, stage->edges_, stage->labels_, parts)});
  }
  return stage;
}

std::vector<ParameterSpec> LayerStage::parameters() const {
  std::vector<ParameterSpec> all;
  for (const LayerPlan& plan : plans_) all.insert(all.end(), plan.parameters().begin(), plan.parameters().end());
  return all;
}

std::vector<StateSpec> LayerStage::states() const {
  std::vector<StateSpec> all;
  for (const LayerPlan& plan : plans_) all.insert(all.end(), plan.states().begin(), plan.states().end());
  return all;
}

std::vector<ReuseSpec> LayerStage::reuses() const {
  std::vector<ReuseSpec> all;
  for (const LayerPlan& plan : plans_) all.insert(all.end(), plan.reuses().begin(), plan.reuses().end());
  return all;
}

double LayerStage::forward_flops() const {
  double flops = 0;
  for (const LayerPlan& plan : plans_) flops += plan.forward_flops();
  return flops;
}

double LayerStage::input_flops() const {
  double flops = 0;
  for (const LayerPlan& plan : plans_) flops += plan.input_flops();
  return flops;
}

double LayerStage::weight_flops() const {
  double flops = 0;
  for (const LayerPlan& plan : plans_) flops += plan.weight_flops();
  return flops;
}

void LayerStage::Bind(const Memory& memory) {
  memory_ = memory;
  for (const LayerPlan& plan : plans_) {
    std::vector<Tensor>&parameters = parameters_.emplace_back(), &gradients = gradients_.emplace_back();
    std::vector<bool*>& fresh = fresh_.emplace_back();
    for (const ParameterSpec& spec : plan.parameters()) {
      parameters.push_back(memory.weight(spec.name));
      gradients.push_back(memory.gradient ? memory.gradient(spec.name, spec.use) : Tensor{});
      fresh.push_back(memory.fresh ? memory.fresh(spec.name, spec.use) : nullptr);
    }
  }
  packs_.Bind(plans_, options_.device, memory.packed);
  for (const LayerPlan& plan : plans_) {
    std::vector<const ReuseSlot*>& reuses = reuses_.emplace_back();
    for (const ReuseSpec& spec : plan.reuses()) reuses.push_back(memory.reuse ? memory.reuse(spec.name) : nullptr);
    std::vector<Tensor>&states = states_.emplace_back(), &observations = observations_.emplace_back();
    for (const StateSpec& spec : plan.states()) {
      states.push_back(memory.state ? memory.state(spec.name) : Tensor{});
      observations.push_back(memory.observations ? memory.observations(spec.name) : Tensor{});
    }
  }
}

std::vector<bool*> LayerStage::marks() const {
  std::vector<bool*> all;
  for (const std::vector<bool*>& of_layer : fresh_) {
    std::ranges::copy_if(of_layer, std::back_inserter(all), [](const bool* mark) { return mark != nullptr; });
  }
  return all;
}

bool LayerStage::communicates() const {
  return std::ranges::any_of(plans_, [](const LayerPlan& plan) { return !plan.transfers().empty(); });
}

bool LayerStage::has_states() const {
  return std::ranges::any_of(plans_, [](const LayerPlan& plan) { return !plan.states().empty(); });
}

std::int64_t LayerStage::packed_bytes() const { return options_.packed_weights ? StagePacks::Bytes(plans_, options_.device) : 0; }

char* LayerStage::Base(const StageSlots& slots, Area area) const {
  const auto slot = [](const std::vector<void*>& memory, int index) {
    return index < 0 ? nullptr : static_cast<char*>(memory[static_cast<std::size_t>(index)]);
  };
  switch (area) {
    case Area::kStash:
      return slot(memory_.stash, slots.stash);
    case Area::kInput:
      return slot(memory_.input, slots.input);
    case Area::kHandoff:
      return slot(memory_.handoff, slots.handoff);
    case Area::kTransient:
      break;
  }
  return static_cast<char*>(memory_.transient);
}

void LayerStage::MergeStates(StageContext& context) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (states_[i].empty()) continue;
    layers_[i]->MergeStates({.stage = &context, .states = states_[i], .observations = observations_[i]});
  }
}

void* LayerStage::input(const StageSlots& slots) {
  const Place place = layout_.full.in.front().front();
  char* base = Base(slots, place.area);
  return base == nullptr ? nullptr : base + place.offset + slots.part * edges_.front()[0].bytes() / slots.parts;
}

void* LayerStage::labels(const StageSlots& slots) {
  char* base = Base(slots, layout_.full.labels.area);
  return base == nullptr ? nullptr : base + layout_.full.labels.offset + slots.part * labels_.bytes() / slots.parts;
}

LayerStage::Variant& LayerStage::Point(const StageSlots& slots, const StageLayout::Places& places) {
  const auto found = std::find_if(variants_.begin(), variants_.end(), [&](const Variant& v) { return v.parts == slots.parts; });
  LYCIA_CHECK(found != variants_.end()) << "the stage was not planned for micro-batches in " << slots.parts << " parts ";
  PointLayers(found->layers, places, slots.part, [&](Area area) { return Base(slots, area); });
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (plans_[i].reads_labels()) found->layers[i].labels.data = labels(slots);
  }
  return *found;
}

void LayerStage::Begin(StageContext& context, const Variant& variant, std::span<const TransferStep> steps) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const LayerBinding& b = variant.layers[i];
    observed_[i].clear();
    for (std::size_t s = 0; s < states_[i].size(); ++s) {
      observed_[i].push_back(RowsOf(observations_[i][s], plans_[i].states()[s].samples, context.samples, context.training));
    }
    contexts_[i] = {&context,
                    b.in,
                    b.out,
                    b.dout,
                    b.din,
                    parameters_[i],
                    gradients_[i],
                    b.kept,
                    b.handoffs,
                    b.scratch,
                    b.labels,
                    &transfers_,
                    static_cast<int>(i),
                    packs_.matrices(i),
                    fresh_[i],
                    packs_.convs(i),
                    states_[i],
                    observed_[i],
                    reuses_[i]};
  }
  packs_.Refresh(*context.stream, parameters_);
  char* transient = static_cast<char*>(memory_.transient);
  transfers_.Start({.steps = steps,
                    .layers = layers_,
                    .contexts = contexts_,
                    .memory = transient == nullptr ? nullptr : transient + layout_.transfers_at.offset});
}

void LayerStage::TakeInput(Stream& stream, const StageSlots& slots, const void* message) {
  std::int64_t packed = 0;
  for (std::size_t i = 0; i < edges_.front().size(); ++i) {
    const std::int64_t bytes = edges_.front()[i].bytes() / slots.parts;
    const Place& place = layout_.full.in.front()[i];
    if (char* base = Base(slots, place.area); base != nullptr) {
      stream.Copy(base + place.offset + slots.part * bytes, static_cast<const char*>(message) + packed, bytes);
    }
    packed += PaddedBytes(bytes);
  }
}

template <typename Call>
void LayerStage::Run(std::size_t i, const Call& call) {
  const LayerContext& context = contexts_[i];
  if (reuses_[i].empty() || context.stream().kind() != DeviceKind::kCpu) return call(*layers_[i], context);
  const auto begin = std::chrono::steady_clock::now();
  call(*layers_[i], context);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (const ReuseSlot* slot : reuses_[i]) {
    if (slot != nullptr && slot->measures != nullptr) slot->measures->seconds += seconds;
  }
}

namespace {

constexpr auto kForward = [](const Layer& layer, const LayerContext& context) { layer.Forward(context); };
constexpr auto kBackward = [](const Layer& layer, const LayerContext& context) { layer.Backward(context); };
constexpr auto kBackwardInput = [](const Layer& layer, const LayerContext& context) { layer.BackwardInput(context); };
constexpr auto kBackwardWeight = [](const Layer& layer, const LayerContext& context) { layer.BackwardWeight(context); };

}  // namespace

void LayerStage::Forward(StageContext& context, const StageSlots& slots, void* out) {
  Variant& variant = Point(slots, layout_.full);
  if (!layout_.keeps_output) Unpack(variant.layers.back().out, out);
  Begin(context, variant, layout_.transfers.forward);
  for (std::size_t i = 0; i < layers_.size(); ++i) Run(i, kForward);
  transfers_.End(*context.stream);
  if (!layout_.keeps_output || out == nullptr) return;
  char* message = static_cast<char*>(out);
  for (const Tensor& tensor : variant.layers.back().out) {
    context.stream->Copy(message, tensor.data, tensor.bytes());
    message += PaddedBytes(tensor.bytes());
  }
}

void LayerStage::Backward(StageContext& context, const StageSlots& slots, const void* dout, void* din) {
  LYCIA_CHECK(options_.full_backward) << "the stage was planned for split backwards only ";
  BackwardLayers(context, Point(slots, layout_.full), dout, din, /*weight=*/true);
}

void LayerStage::BackwardInput(StageContext& context, const StageSlots& slots, const void* dout, void* din) {
  LYCIA_CHECK(options_.split_backward) << "the stage was planned for full backwards only ";
  BackwardLayers(context, Point(slots, layout_.split), dout, din, /*weight=*/false);
}

void LayerStage::BackwardWeight(StageContext& context, const StageSlots& slots) {
  LYCIA_CHECK(options_.split_backward) << "the stage was planned for full backwards only ";
  Begin(context, Point(slots, layout_.split), layout_.transfers.backward_weight);
  for (std::size_t i = layers_.size(); i-- > 0;) Run(i, kBackwardWeight);
  transfers_.End(*context.stream);
}

void LayerStage::ForwardAgain(std::size_t i) {
  contexts_[i].recomputes = true;
  Run(i, kForward);
  contexts_[i].recomputes = false;
}

void LayerStage::BackwardLayers(StageContext& context, Variant& variant, const void* dout, void* din, bool weight) {
  Unpack(variant.layers.back().dout, const_cast<void*>(dout));  // layers only read dout
  Unpack(variant.layers.front().din, din);
  Begin(context, variant, weight ? layout_.transfers.backward : layout_.transfers.backward_input);
  if (options_.recompute == Recompute::kStage) {
    for (std::size_t i = 0; i < layers_.size(); ++i) ForwardAgain(i);
  }
  for (std::size_t i = layers_.size(); i-- > 0;) {
    if (options_.recompute == Recompute::kLayers) ForwardAgain(i);
    weight ? Run(i, kBackward) : Run(i, kBackwardInput);
  }
  transfers_.End(*context.stream);
}

}  // namespace lycia
