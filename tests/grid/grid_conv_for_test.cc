#include "tests/grid/grid_conv_for_test.h"

#include <cmath>
#include <functional>
#include <limits>

#include "runtime/comm/transports.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr std::uint64_t kSeed = 5;

double Get(const Tensor& t, std::int64_t i) {
  return DispatchStored(t.dtype, [&]<typename T>() { return static_cast<double>(static_cast<const T*>(t.data)[i]); });
}
void Set(const Tensor& t, std::int64_t i, double value) {
  DispatchStored(t.dtype, [&]<typename T>() { static_cast<T*>(t.data)[i] = T(static_cast<Arithmetic<T>>(value)); });
}

// f(element of this rank's part, element of all micro-batches' images; -1: padding)
template <typename F>
void ForEachElement(const GridImages& images, const Grid& grid, int micro_batch, const F& f) {
  const TensorSpec part = images.Part(grid, DType::kF32);
  const std::int64_t n = part.shape[0], pixels = images.height * images.width, width = part.shape[3];
  const std::int64_t first_sample = micro_batch * images.samples + grid.coordinate(Axis::kZ) * (images.samples / grid.size(Axis::kZ)) +
                                    grid.coordinate(images.samples_along()) * n;
  const std::int64_t first_channel = grid.coordinate(images.channels_along) * width;
  for (std::int64_t row = 0; row < n * pixels; ++row) {
    for (std::int64_t c = 0; c < width; ++c) {
      const bool padding = first_channel + c >= images.channels;
      f(row * width + c, padding ? -1 : (first_sample * pixels + row) * images.channels + first_channel + c);
    }
  }
}

StageSlots SlotsOf(int slot) { return {.stash = slot, .input = slot, .handoff = slot}; }

}  // namespace

double ConvInput(std::int64_t index) {
  return (static_cast<double>(RandomStream(1, "images", 0).Bits(static_cast<std::uint64_t>(index)) % 255) - 127) / 64;
}
double ConvOutputGradient(std::int64_t index) {
  return (static_cast<double>(RandomStream(1, "dout", 0).Bits(static_cast<std::uint64_t>(index)) % 255) - 127) / 64;
}

std::string ConvCase::ToString() const {
  std::string text = StrCat(Name(dtype), " grid ", x, "x", y, "x", z, " ", in.samples, "x", in.height, "x", in.width, "x", in.channels);
  for (const Block& block : blocks) {
    text += block.projection ? " %[" : block.skip ? " +[" : " [";
    for (const GridConvUnit::Options& u : block.units) {
      text += StrCat(" ", u.filters, "@", u.filter, "/", u.stride, u.norm.empty() ? "" : StrCat(" norm ", u.norm_samples),
                     u.bias ? " bias" : "", u.relu ? " relu" : "", u.keeps ? " keeps" : "");
    }
    text += " ]";
  }
  return StrCat(text, " cache x ", policy.cache_inputs, " w ", policy.cache_weights, " dy ", policy.cache_output_gradients,
                policy.overlap ? "" : " serial", weights_each_step ? " weights each step" : "", packed ? " packed" : "",
                split ? " split" : "", input_gradient ? "" : " no din", " micro-batches ", micro_batches, " recompute ",
                static_cast<int>(recompute));
}

std::vector<GridConvUnit::Options> ConvCase::Units() const {
  std::vector<GridConvUnit::Options> units;
  for (const Block& block : blocks) units.insert(units.end(), block.units.begin(), block.units.end());
  return units;
}

namespace {

GridImages Behind(const GridImages& images, const GridConvUnit::Options& unit) {
  const auto out = [&](std::int64_t size) {
    const std::int64_t pad = unit.filter / 2;
    return (size + 2 * pad - unit.filter) / unit.stride + 1;
  };
  return {.samples = images.samples,
          .height = out(images.height),
          .width = out(images.width),
          .channels = unit.filters,
          .channels_along = unit.keeps ? images.channels_along : images.samples_along()};
}

}  // namespace

GridImages ConvCase::ImagesAt(std::size_t i) const {
  GridImages images = in;
  const std::vector<GridConvUnit::Options> units = Units();
  for (std::size_t u = 0; u < i; ++u) images = Behind(images, units[u]);
  return images;
}

std::vector<ConvCase::Placed> ConvCase::All() const {
  std::vector<Placed> all;
  GridImages at = in;
  for (const Block& block : blocks) {
    const bool first = &block == &blocks.front();
    if (block.projection) all.push_back({*block.projection, at, Behind(at, *block.projection), first});
    for (const GridConvUnit::Options& unit : block.units) {
      all.push_back({unit, at, Behind(at, unit), first && &unit == &block.units.front()});
      at = all.back().out;
    }
  }
  return all;
}

ConvRank::Buffer::Buffer(std::int64_t bytes) : lines_(static_cast<std::size_t>((bytes + 63) / 64)) {
  for (Line& line : lines_) std::fill(std::begin(line.words), std::end(line.words), 0x7FF87FF87FF87FF8);  // NaN in every type
}

StatusOr<std::unique_ptr<ConvRank>> ConvRank::Create(Communicator& world, const ConvCase& c) {
  std::unique_ptr<ConvRank> rank(new ConvRank(c));
  LYCIA_RETURN_IF_ERROR(rank->Build(world));
  return rank;
}

Status ConvRank::Build(Communicator& world) {
  LYCIA_ASSIGN_OR_RETURN(stream_, device_->NewStream());
  LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = case_.x, .y = case_.y, .z = case_.z}, world.size()));
  LYCIA_ASSIGN_OR_RETURN(grid_, Grid::Create(world, mesh));
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<const GridConvBlock*> seen;
  out_images_ = case_.in;
  std::size_t unit = 0;
  for (const ConvCase::Block& block : case_.blocks) {
    GridConvBlock::Options options{.name = StrCat("block", layers.size()),
                                   .grid = grid_.get(),
                                   .in = case_.ImagesAt(unit),
                                   .units = block.units,
                                   .skip = block.skip,
                                   .projection = block.projection,
                                   .input_gradient = case_.input_gradient || !layers.empty()};
    for (GridConvUnit::Options& u : options.units) u.policy = case_.policy, u.weights_each_step = case_.weights_each_step;
    if (options.projection) options.projection->policy = case_.policy, options.projection->weights_each_step = case_.weights_each_step;
    auto layer = std::make_unique<GridConvBlock>(std::move(options));
    seen.push_back(layer.get());
    layers.push_back(std::move(layer));
    unit += block.units.size();
  }
  LYCIA_ASSIGN_OR_RETURN(stage_, LayerStage::Create(std::move(layers), {case_.in.Part(*grid_, case_.dtype)},
                                                    {.compute = case_.dtype,
                                                     .recompute = case_.recompute,
                                                     .full_backward = !case_.split,
                                                     .split_backward = case_.split,
                                                     .packed_weights = case_.packed}));
  for (const GridConvBlock* layer : seen) {
    parameters_.insert(parameters_.end(), layer->grid_parameters().begin(), layer->grid_parameters().end());
  }
  out_images_ = seen.back()->out();
  Bind();
  BindExchange();
  for (const GridParameter& parameter : parameters_) {
    const Tensor& owned = owned_tensors_.at(parameter.name);
    Initialise(*stream_, parameter, *grid_, kSeed, owned);
    if (parameter.exchange != Exchange::kFused) continue;
    for (const ElementRun& run : parameter.OwnedRuns(*grid_)) {
      for (std::int64_t i = 0; i < run.count && run.tensor >= 0; ++i) {
        Set(owned, run.local + i, Get(owned, run.local + i) + VectorShift(run.tensor + i));
      }
    }
  }
  return stream_->status();
}

Tensor ConvRank::Zeroed(std::map<std::string, Buffer>& in, const std::string& name, const TensorSpec& spec) {
  const Tensor tensor = (in[name] = Buffer(spec.bytes())).As(spec);
  for (std::int64_t i = 0; i < spec.elements(); ++i) Set(tensor, i, 0);
  return tensor;
}

void ConvRank::Bind() {
  const DType statistics = ArithmeticDType(case_.dtype);
  std::map<std::string, Tensor> weights, gradients;
  for (const ParameterSpec& spec : stage_->parameters()) {
    weights[spec.name] = Zeroed(weights_, spec.name, {case_.dtype, spec.shape});
    gradients[spec.name] = Zeroed(gradients_, spec.name, {statistics, spec.shape});
  }
  for (const StateSpec& spec : stage_->states()) {
    const TensorSpec observed{statistics, {case_.micro_batches * case_.in.samples / spec.samples, spec.shape[0]}};
    tensors_of_states_[spec.name] = Zeroed(states_, spec.name, {statistics, spec.shape});
    for (std::int64_t i = 0; i < spec.shape[0]; ++i) Set(tensors_of_states_[spec.name], i, spec.initial == Initial::kOne ? 1 : 0);
    tensors_of_observations_[spec.name] = Zeroed(observations_, spec.name, observed);
  }
  const auto slots = static_cast<std::size_t>(case_.split ? case_.micro_batches : 1);
  LayerStage::Memory memory;
  const auto allocate = [&](std::vector<Buffer>& buffers, Area area, std::vector<void*>& to) {
    for (std::size_t s = 0; s < slots; ++s) buffers.emplace_back(stage_->bytes(area));
    for (Buffer& buffer : buffers) to.push_back(buffer.data());
  };
  allocate(stash_, Area::kStash, memory.stash);
  allocate(input_, Area::kInput, memory.input);
  allocate(handoff_, Area::kHandoff, memory.handoff);
  transient_ = Buffer(stage_->bytes(Area::kTransient));
  memory.transient = transient_.data();
  packed_ = Buffer(stage_->packed_bytes());
  if (stage_->packed_bytes() > 0) memory.packed = packed_.data();
  memory.weight = [weights](const std::string& name) { return weights.at(name); };
  memory.gradient = [gradients](const std::string& name, int) { return gradients.at(name); };
  memory.state = [this](const std::string& name) { return tensors_of_states_.at(name); };
  memory.observations = [this](const std::string& name) { return tensors_of_observations_.at(name); };
  stage_->Bind(memory);
  owned_tensors_ = weights;
  owned_gradient_tensors_ = gradients;
  const std::int64_t out_bytes = PackedBytes(stage_->outputs());
  for (int m = 0; m < case_.micro_batches; ++m) out_.emplace_back(out_bytes), dout_.emplace_back(out_bytes);
  din_ = Buffer(PackedBytes(stage_->inputs()));
}

void ConvRank::BindExchange() {
  exchange_ = std::make_unique<StepExchange>(*grid_, case_.dtype, parameters_);
  staging_ = Buffer(exchange_->staging_bytes());
  std::vector<StepExchange::Binding> bindings;
  for (const GridParameter& parameter : exchange_->parameters()) {
    const Shape owned{parameter.Owned(*grid_).count};
    const Tensor copy = owned_tensors_.at(parameter.name), partial = owned_gradient_tensors_.at(parameter.name);
    owned_tensors_[parameter.name] = Zeroed(owned_, parameter.name, {copy.dtype, owned});
    owned_gradient_tensors_[parameter.name] = Zeroed(owned_gradients_, parameter.name, {partial.dtype, owned});
    bindings.push_back({.owned = owned_tensors_[parameter.name],
                        .owned_gradient = owned_gradient_tensors_[parameter.name],
                        .copy = copy,
                        .partial = partial});
  }
  exchange_->Bind(staging_.data(), bindings);
}

// Without a result: on what is loaded.
void ConvRank::RunMicroBatches(ConvResult* result) {
  const auto at = [&](int m) {
    return StageContext{.stream = stream_.get(), .seed = kSeed, .samples = {m * case_.in.samples, case_.in.samples}};
  };
  const auto slots = [&](int m) { return SlotsOf(case_.split ? m : 0); };
  const auto forward = [&](int m) {
    StageContext context = at(m);
    if (result != nullptr) {
      const Tensor in{stage_->input(slots(m)), case_.dtype, stage_->inputs()[0].shape};
      const Tensor dout = dout_[static_cast<std::size_t>(m)].As(stage_->outputs()[0]);
      ForEachElement(case_.in, *grid_, m, [&](std::int64_t i, std::int64_t global) { Set(in, i, global < 0 ? 0 : ConvInput(global)); });
      ForEachElement(out_images_, *grid_, m,
                     [&](std::int64_t i, std::int64_t global) { Set(dout, i, global < 0 ? 0 : ConvOutputGradient(global)); });
    }
    const Tensor out = out_[static_cast<std::size_t>(m)].As(stage_->outputs()[0]);
    stage_->Forward(context, slots(m), out.data);
    if (result == nullptr || !stream_->Synchronize().ok()) return;
    std::lock_guard<std::mutex> lock(result->mutex);
    std::vector<double>& all = result->numbers.out;
    all.resize(static_cast<std::size_t>(case_.micro_batches * out_images_.samples * out_images_.height * out_images_.width *
                                        out_images_.channels));
    ForEachElement(out_images_, *grid_, m, [&](std::int64_t i, std::int64_t global) {
      if (global >= 0) all[static_cast<std::size_t>(global)] = Get(out, i);
    });
  };
  const auto backward = [&](int m) {
    StageContext context = at(m);
    const Tensor din = din_.As(stage_->inputs()[0]);
    void* dout = dout_[static_cast<std::size_t>(m)].data();
    case_.split ? stage_->BackwardInput(context, slots(m), dout, din.data) : stage_->Backward(context, slots(m), dout, din.data);
    if (result == nullptr || !case_.input_gradient || !stream_->Synchronize().ok()) return;
    std::lock_guard<std::mutex> lock(result->mutex);
    std::vector<double>& all = result->numbers.din;
    all.resize(static_cast<std::size_t>(case_.micro_batches * case_.in.samples * case_.in.height * case_.in.width * case_.in.channels));
    ForEachElement(case_.in, *grid_, m, [&](std::int64_t i, std::int64_t global) {
      if (global < 0 && Get(din, i) != 0) all[0] = std::numeric_limits<double>::quiet_NaN();  // padding stays zero
      if (global >= 0) all[static_cast<std::size_t>(global)] = Get(din, i);
    });
  };
  const int M = case_.micro_batches;
  if (!case_.split) {
    for (int m = 0; m < M; ++m) forward(m), backward(m);
    return;
  }
  for (int m = 0; m < M; ++m) forward(m);
  for (int m = 0; m < M; ++m) backward(m);
  for (int m = M - 1; m >= 0; --m) {
    StageContext context = at(m);
    stage_->BackwardWeight(context, slots(m));
  }
}

// The ranks with the same channels bring their rows together, then fold them.
void ConvRank::MergeStates() {
  for (const auto& [unit, in, out, first] : case_.All()) {
    for (const char* of : {".running_mean", ".running_var"}) {
      if (unit.norm.empty()) continue;
      for (const GridParameter& parameter : parameters_) {
        if (parameter.name != unit.norm + ".weight") continue;
        AllReduceAlong(*stream_, grid_->along(parameter.group), tensors_of_observations_.at(unit.norm + of), Fold::kSum, Tag::kVector);
      }
    }
  }
  StageContext context{.stream = stream_.get(), .seed = kSeed};
  stage_->MergeStates(context);
}

Status ConvRank::Step(ConvResult& result) {
  exchange_->Gather(*stream_);
  RunMicroBatches(&result);
  exchange_->Reduce(*stream_);
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  PutParameters(result);
  return OkStatus();
}

Status ConvRank::StepAgain() {
  exchange_->Gather(*stream_);
  RunMicroBatches(nullptr);
  exchange_->Reduce(*stream_);
  return stream_->Synchronize();
}

void ConvRank::PutParameters(ConvResult& result) {
  std::lock_guard<std::mutex> lock(result.mutex);
  for (const GridParameter& parameter : parameters_) {
    const auto count = static_cast<std::size_t>(parameter.tensor_shape.elements());
    std::vector<double>&weights = result.numbers.weights[parameter.name], &gradients = result.numbers.gradients[parameter.name];
    std::vector<int>& owners = result.owners[parameter.name];
    weights.resize(count), gradients.resize(count), owners.resize(count);
    const Tensor &weight = owned_tensors_.at(parameter.name), &gradient = owned_gradient_tensors_.at(parameter.name);
    for (const ElementRun& run : parameter.OwnedRuns(*grid_)) {
      for (std::int64_t i = 0; i < run.count; ++i) {
        if (run.tensor < 0) {  // padding stays zero
          if (Get(weight, run.local + i) != 0 || Get(gradient, run.local + i) != 0) gradients[0] = std::numeric_limits<double>::quiet_NaN();
          continue;
        }
        const auto global = static_cast<std::size_t>(run.tensor + i);
        weights[global] = Get(weight, run.local + i);
        gradients[global] += Get(gradient, run.local + i);
        ++owners[global];
      }
    }
  }
}

Status ConvRank::Evaluate(ConvResult& result) {
  MergeStates();
  exchange_->Gather(*stream_);
  StageContext context{.stream = stream_.get(), .seed = kSeed, .training = false, .samples = {0, case_.in.samples}};
  const Tensor in{stage_->input(SlotsOf(0)), case_.dtype, stage_->inputs()[0].shape}, out = out_[0].As(stage_->outputs()[0]);
  ForEachElement(case_.in, *grid_, 0, [&](std::int64_t i, std::int64_t global) { Set(in, i, global < 0 ? 0 : ConvInput(global)); });
  stage_->Forward(context, SlotsOf(0), out.data);
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  std::lock_guard<std::mutex> lock(result.mutex);
  result.evaluated.resize(result.numbers.out.size() / static_cast<std::size_t>(case_.micro_batches));
  ForEachElement(out_images_, *grid_, 0, [&](std::int64_t i, std::int64_t global) {
    if (global >= 0) result.evaluated[static_cast<std::size_t>(global)] = Get(out, i);
  });
  for (const GridParameter& parameter : parameters_) {
    const std::string norm = parameter.name.substr(0, parameter.name.rfind('.'));
    if (!parameter.name.ends_with(".weight")) continue;
    for (const char* of : {".running_mean", ".running_var"}) {
      const auto found = tensors_of_states_.find(norm + of);
      if (found == tensors_of_states_.end()) continue;
      std::vector<double>& state = result.numbers.states[norm + of];
      state.resize(static_cast<std::size_t>(parameter.tensor_shape.elements()));
      for (const ElementRun& run : Runs(parameter.block, 0, parameter.block.elements())) {
        for (std::int64_t i = 0; i < run.count && run.tensor >= 0; ++i) {
          state[static_cast<std::size_t>(run.tensor + i)] = Get(found->second, run.local + i);
        }
      }
    }
  }
  return OkStatus();
}

Status RunConv(const ConvCase& c, ConvResult& result, const std::function<Status(const ConvRank&)>& check) {
  return RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<ConvRank> rank, ConvRank::Create(world, c));
    LYCIA_RETURN_IF_ERROR(rank->Step(result));
    if (check) LYCIA_RETURN_IF_ERROR(check(*rank));
    return rank->Evaluate(result);
  });
}

}  // namespace lycia
