#include "launch/reuse_control.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/reuse/agreement.h"
#include "runtime/core/check.h"

namespace lycia {

StatusOr<std::unique_ptr<ReuseControl>> ReuseControl::Create(const ReuseTraining& training, std::vector<ReuseSpec> specs,
                                                             const std::set<std::string>& local, DType dtype, ArenaPlan& plan) {
  if (specs.empty()) {
    return InvalidArgument(
        "computation reuse is on, but no layer of the model has rows that it could find again; use reuse.mode = \"off\", "
        "or name layers in reuse.layers that there are (GPT: h.0.attn, h.0.mlp, ...; Llama: h.0.attn, ...; images: conv1, ...)");
  }
  for (const std::string& name : training.layers.layers) {
    if (std::ranges::any_of(specs, [&](const ReuseSpec& spec) { return spec.name.starts_with(name); })) continue;
    return InvalidArgument("reuse.layers names \"", name,
                           "\", but no layer with rows that could repeat begins so; name layers that there are ",
                           "(GPT: h.0.attn, h.0.mlp, ...; Llama: h.0.attn, ...; images: conv1, ...)");
  }
  std::unique_ptr<ReuseControl> control(new ReuseControl(training, dtype));
  const bool lsh = training.layers.policy == ReusePolicy::kLsh;
  for (ReuseSpec& spec : specs) {
    Layer layer{.spec = std::move(spec)};
    layer.local = local.contains(layer.spec.name);
    if (layer.local && lsh) {
      layer.projections_region = plan.Add("reuse", TensorSpec{dtype, {kProjections, layer.spec.depth}});
      layer.shifts_region = plan.Add("reuse", TensorSpec{DType::kF64, {kProjections}});
    }
    control->layers_.push_back(std::move(layer));
  }
  const auto count = static_cast<std::int64_t>(control->layers_.size());
  control->measures_region_ = plan.Add("reuse", TensorSpec{DType::kF64, {control->reduced_elements()}});
  control->observation_.layers.resize(control->layers_.size());
  for (const Layer& layer : control->layers_) control->rows_.push_back({.layer = layer.spec.name});

  reuse::ControllerOptions options = training.controller;
  options.layers = count;
  LYCIA_ASSIGN_OR_RETURN(
      reuse::Controller controller,
      reuse::Controller::Create(options, [raw = control.get()](std::int64_t layer, double kept) { return raw->Cost(layer, kept); }));
  control->controller_ = std::make_unique<reuse::Controller>(std::move(controller));
  return control;
}

reuse::Seconds ReuseControl::Cost(std::int64_t layer, double kept) const {
  const ReuseSpec& spec = layers_[static_cast<std::size_t>(layer)].spec;
  const ReuseRates& rates = spec.patches && training_.patch_rates ? *training_.patch_rates : training_.rates;
  const double dense = spec.flops / rates.flops;
  if (training_.always) return {.dense = dense, .reuse = kept * dense / 2};
  const Calibrated& c = layers_[static_cast<std::size_t>(layer)].calibrated;
  if (c.dense_seconds > 0 && c.reuse_seconds > 0) {
    // Whole layers, the same but for what reuse does; products grow with the rows that are left.
    return {.dense = c.dense_seconds, .reuse = std::max(0.0, c.reuse_seconds + (kept - c.unique_ratio) * std::min(dense, c.dense_seconds))};
  }
  return {.dense = dense, .reuse = kept * spec.flops / rates.mapped() + spec.bytes / rates.bytes_per_s + rates.fixed_seconds};
}

reuse::LayerOrder ReuseControl::Trial(std::size_t index) const {
  const auto layer = static_cast<std::int64_t>(index);
  const double width = controller_->orders()[index].width;
  if (controller_->next_step() % 2 == 0) return {.width = width};
  // Nothing is known at first; and were all but the products free, a layer whose rows are distinct would gain nothing.
  const bool could_pay =
      controller_->kept(layer) <= 1 - training_.controller.hysteresis && controller_->error(layer) <= controller_->budget();
  return {.reuse = could_pay, .width = width, .measure = !could_pay};
}

void ReuseControl::Calibrate(std::size_t index, const ReuseMeasures& seen) {
  Calibrated& c = layers_[index].calibrated;
  const auto better = [&](double seconds) { return seen.seconds > 0 && (seconds == 0 || seen.seconds < seconds); };
  if (layers_[index].slot.use == ReuseUse::kDense && better(c.dense_seconds)) c.dense_seconds = seen.seconds;
  if (layers_[index].slot.use == ReuseUse::kReuse && better(c.reuse_seconds)) {
    c.reuse_seconds = seen.seconds;
    c.unique_ratio = seen.UniqueRatio();
  }
}

Status ReuseControl::Bind(const Arena& arena, Device& device) {
  measures_ = arena.At(measures_region_, {DType::kF64, {reduced_elements()}});
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    if (measures_.data != nullptr) layer.slot.measures = static_cast<ReuseMeasures*>(measures_.data) + i;
    if (!layer.local || training_.layers.policy != ReusePolicy::kLsh) continue;
    layer.projections = arena.At(layer.projections_region, {dtype_, {kProjections, layer.spec.depth}});
    layer.shifts = arena.At(layer.shifts_region, {DType::kF64, {kProjections}});
  }
  LYCIA_ASSIGN_OR_RETURN(reduced_memory_, device.Allocate(measures_.bytes(), MemoryKind::kPinned));
  reduced_ = {static_cast<const ReuseMeasures*>(reduced_memory_.data()), layers_.size()};
  return OkStatus();
}

Status ReuseControl::Initialise(HostAccess& host, std::uint64_t seed) {
  LYCIA_ASSIGN_OR_RETURN(Stream* const stream, host.ComputeStream());
  for (const Layer& layer : layers_) {
    if (layer.shifts.shape.rank() == 0) continue;
    std::uint64_t key = seed;  // FNV-1a over the name, so that layers have projections of their own
    for (const char c : layer.spec.name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    std::vector<char> projections(static_cast<std::size_t>(layer.projections.bytes()));
    std::vector<double> shifts(static_cast<std::size_t>(layer.shifts.elements()));
    MakeProjections(*stream, {.seed = key,
                              .projections = {projections.data(), layer.projections.dtype, layer.projections.shape},
                              .shifts = {shifts.data(), DType::kF64, layer.shifts.shape}});
    LYCIA_RETURN_IF_ERROR(stream->Synchronize());
    const auto write = [&](const Tensor& to, const void* from) {
      return host.Write(to, [&](const Tensor& memory) {
        std::memcpy(memory.data, from, static_cast<std::size_t>(memory.bytes()));
        return OkStatus();
      });
    };
    LYCIA_RETURN_IF_ERROR(write(layer.projections, projections.data()));
    LYCIA_RETURN_IF_ERROR(write(layer.shifts, shifts.data()));
  }
  return OkStatus();
}

const ReuseSlot* ReuseControl::slot(const std::string& name) const {
  const auto found = std::ranges::find_if(layers_, [&](const Layer& layer) { return layer.spec.name == name; });
  LYCIA_CHECK(found != layers_.end()) << "no layer " << name << " reuses computation ";
  return &found->slot;
}

void ReuseControl::BeginStep(Stream& stream) {
  stream.Zero(measures_.data, measures_.bytes());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    reuse::LayerOrder order = controller_->orders()[i];
    if (calibrates()) order = Trial(i);
    Layer& layer = layers_[i];
    layer.slot.use = order.reuse ? ReuseUse::kReuse : order.measure ? ReuseUse::kMeasure : ReuseUse::kDense;
    layer.slot.probe = order.reuse && order.probe;
    layer.slot.rule = {};
    if (order.width > 0) {
      layer.slot.rule = {.policy = training_.layers.policy,
                         .delta = order.width,
                         .width = order.width,
                         .projections = layer.projections.data == nullptr ? ConstMatrix{} : AsMatrix(layer.projections),
                         .shifts = layer.shifts};
    }
  }
}

Status ReuseControl::CheckAgreement(Communicator& world) {
  const std::uint64_t mine = controller_->Fingerprint();
  fingerprints_.resize(static_cast<std::size_t>(world.size()));
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(&mine, DType::kI64, {1}),
                                        .out = Tensor{fingerprints_.data(), DType::kI64, {world.size()}},
                                        .tag = Tag::kMetrics},
                                       {})
                            .Wait());
  return reuse::CheckAgreement(controller_->next_step(), fingerprints_);
}

Status ReuseControl::EndStep(Stream& stream, Communicator& world) {
  if (world.size() > 1) {
    LYCIA_RETURN_IF_ERROR(CheckAgreement(world));
    stream.Wait(world.AllReduce({.in = measures_, .out = measures_, .tag = Tag::kMetrics}, stream.Record()));
  }
  stream.Copy(reduced_memory_.data(), measures_.data, measures_.bytes());
  return OkStatus();
}

void ReuseControl::Decide(double loss, bool skipped) {
  observation_.loss = loss;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const ReuseMeasures& seen = reduced_[i];
    const ReuseSlot& slot = layers_[i].slot;
    observation_.layers[i] = {.measured = seen.rows > 0,
                              .kept = seen.UniqueRatio(),
                              .error = seen.RelativeError(),
                              .probed = slot.probe && !skipped && seen.dense_squares > 0,
                              .cosine = seen.Cosine()};
    if (calibrates()) Calibrate(i, seen);
    const reuse::Seconds cost = Cost(static_cast<std::int64_t>(i), seen.UniqueRatio());
    rows_[i].use = slot.use;
    rows_[i].unique_ratio.reset();
    rows_[i].relative_error.reset();
    if (seen.rows > 0) rows_[i].unique_ratio = seen.UniqueRatio();
    if (seen.rows > 0) rows_[i].relative_error = seen.RelativeError();
    rows_[i].width = controller_->orders()[i].width;
    rows_[i].predicted_saving = slot.use == ReuseUse::kReuse && !training_.always ? 1 - cost.reuse / cost.dense : 0;
  }
  controller_->Decide(observation_);
}

std::vector<double> ReuseControl::State() const {
  std::vector<double> state;
  for (const ReuseRates& rates : {training_.rates, training_.patch_rates.value_or(training_.rates)}) {
    state.insert(state.end(), {rates.flops, rates.bytes_per_s, rates.mapped(), rates.fixed_seconds});
  }
  for (const Layer& layer : layers_) {
    for (const double number : {layer.calibrated.dense_seconds, layer.calibrated.reuse_seconds, layer.calibrated.unique_ratio}) {
      state.push_back(number);
    }
  }
  const std::size_t rates = state.size();
  state.resize(rates + static_cast<std::size_t>(reuse::Controller::StateSize(static_cast<std::int64_t>(layers_.size()))));
  controller_->Save(std::span(state).subspan(rates));
  return state;
}

Status ReuseControl::Restore(std::span<const double> state) {
  constexpr std::size_t kOfRates = 4;
  const std::size_t rates = 2 * kOfRates, head = rates + 3 * layers_.size();
  if (state.size() < head) {
    return InvalidArgument("the checkpoint's state of computation reuse has ", state.size(), " numbers, too few for ", layers_.size(),
                           " layers");
  }
  for (std::size_t at = 0; at < head; ++at) {  // rates, which divide, and times
    const bool divides = at < rates && at % kOfRates != kOfRates - 1;
    if (std::isfinite(state[at]) && (divides ? state[at] > 0 : state[at] >= 0)) continue;
    return InvalidArgument("the checkpoint's state of computation reuse is damaged: number ", at, " is ", state[at],
                           "; continue from another checkpoint");
  }
  LYCIA_RETURN_IF_ERROR(controller_->Restore(state.subspan(head)));
  const auto rates_at = [&](std::size_t at) {
    return ReuseRates{.flops = state[at], .bytes_per_s = state[at + 1], .fixed_seconds = state[at + 3], .mapped_flops = state[at + 2]};
  };
  training_.rates = rates_at(0);
  training_.patch_rates = rates_at(kOfRates);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const std::span<const double> of = state.subspan(rates + 3 * i);
    layers_[i].calibrated = {.dense_seconds = of[0], .reuse_seconds = of[1], .unique_ratio = of[2]};
  }
  return OkStatus();
}

std::string ReuseControl::StateText() const {
  std::string text;
  for (const double number : State()) {
    absl::StrAppend(&text, absl::Hex(std::bit_cast<std::uint64_t>(number), absl::kZeroPad16));
  }
  return text;
}

Status ReuseControl::RestoreText(std::string_view text) {
  constexpr std::size_t kDigits = 16;
  std::vector<double> state;
  for (std::size_t at = 0; at < text.size(); at += kDigits) {
    std::uint64_t bits = 0;
    const std::string_view digits = text.substr(at, kDigits);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
    if (error != std::errc() || digits.size() != kDigits || end != digits.data() + kDigits) {
      return InvalidArgument("the checkpoint's state of computation reuse is damaged at digit ", at);
    }
    state.push_back(std::bit_cast<double>(bits));
  }
  return Restore(state);
}

}  // namespace lycia
