#include "tests/grid/grid_rank_for_test.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "parallel/grid/vocabulary.h"
#include "runtime/comm/transports.h"
#include "runtime/core/philox.h"

namespace lycia {

std::string GridCase::ToString() const {
  const GptConfig& m = options.model;
  return StrCat("grid ", x, "x", y, "x", z, " B ", options.samples, " T ", options.sequence, " C ", m.hidden, " H ", m.heads, " G ",
                m.key_heads(), " F ", m.ffn, " V ", m.vocab, m.tied ? " tied" : " untied", options.tied_in_one_stage ? "" : " apart",
                " dropout ", m.dropout, " cache x ", options.policy.cache_inputs, " w ", options.policy.cache_weights, " dy ",
                options.policy.cache_output_gradients, options.weights_each_step ? " weights each step" : "", split ? " split" : "",
                recompute == Recompute::kLayers  ? " recompute layers"
                : recompute == Recompute::kStage ? " recompute stage"
                                                 : "",
                options.policy.overlap ? "" : " serial");
}

template <typename Number>
StatusOr<std::unique_ptr<GridRankOf<Number>>> GridRankOf<Number>::Create(Communicator& world, const GridCase& c, const GridFaults& faults) {
  std::unique_ptr<GridRankOf> rank(new GridRankOf(c, faults));
  LYCIA_RETURN_IF_ERROR(rank->Build(world));
  return rank;
}

template <typename Number>
Status GridRankOf<Number>::Build(Communicator& world) {
  LYCIA_ASSIGN_OR_RETURN(stream_, device_->NewStream());
  if (faults_.wrap_stream) stream_ = faults_.wrap_stream(std::move(stream_));
  LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = case_.x, .y = case_.y, .z = case_.z, .order = case_.order}, world.size()));
  LYCIA_ASSIGN_OR_RETURN(grid_, Grid::Create(world, mesh, faults_.wrap));
  case_.options.grid = grid_.get();
  LYCIA_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<GridLayer>> layers, GridGptLayers(case_.options));
  std::vector<std::unique_ptr<Layer>> stage_layers;
  std::vector<const GridLayer*> seen;
  for (std::unique_ptr<GridLayer>& layer : layers) {
    seen.push_back(layer.get());
    stage_layers.push_back(std::move(layer));
    if (faults_.wrap_layer) stage_layers.back() = faults_.wrap_layer(std::move(stage_layers.back()));
  }
  const TensorSpec tokens{DType::kI32, {case_.options.samples / case_.z, case_.options.sequence}};
  LYCIA_ASSIGN_OR_RETURN(
      stage_,
      LayerStage::Create(
          std::move(stage_layers), {tokens},
          {.compute = DTypeOf<Number>::value, .recompute = case_.recompute, .full_backward = !case_.split, .split_backward = case_.split}));
  memory_ = std::make_unique<StageMemoryOf<Number>>(*stage_, case_.split ? case_.micro_batches : 1);
  std::set<std::pair<std::string, int>> names;
  for (const GridLayer* layer : seen) {
    for (const GridParameter& parameter : layer->grid_parameters()) {
      if (names.insert({parameter.name, parameter.use}).second) parameters_.push_back(parameter);
    }
  }
  exchange_ = std::make_unique<StepExchange>(*grid_, DTypeOf<Number>::value, parameters_);
  staging_.resize(static_cast<std::size_t>(exchange_->staging_bytes() / static_cast<std::int64_t>(sizeof(Number))));
  std::vector<StepExchange::Binding> bindings;
  const auto tensor = [](std::vector<Number>& values) {
    return Tensor{values.data(), DTypeOf<Number>::value, {static_cast<std::int64_t>(values.size())}};
  };
  for (const GridParameter& parameter : exchange_->parameters()) {
    const std::size_t count = static_cast<std::size_t>(parameter.Owned(*grid_).count);
    owned_[parameter.name].resize(count);
    owned_gradients_[parameter.name].resize(count);
    bindings.push_back({.owned = tensor(owned_[parameter.name]),
                        .owned_gradient = tensor(owned_gradients_[parameter.name]),
                        .copy = tensor(memory_->weights()[parameter.name]),
                        .partial = tensor(memory_->gradients()[parameter.name])});
  }
  exchange_->Bind(staging_.data(), bindings);
  for (const GridParameter& parameter : parameters_) {
    if (parameter.exchange == Exchange::kHandOver || parameter.use > 0) continue;
    Initialise(*stream_, parameter, *grid_, kGridSeed, tensor(Owned(parameter)));
  }
  return stream_->status();
}

template <typename Number>
std::vector<Number>& GridRankOf<Number>::Owned(const GridParameter& parameter) {
  return parameter.exchange == Exchange::kEachUse ? memory_->weights()[parameter.name] : owned_[parameter.name];
}

template <typename Number>
std::vector<Number>& GridRankOf<Number>::OwnedGradient(const GridParameter& parameter) {
  if (parameter.exchange != Exchange::kEachUse) return owned_gradients_[parameter.name];
  return memory_->gradients()[parameter.use == 0 ? parameter.name : parameter.name + "#" + std::to_string(parameter.use)];
}

template <typename Number>
void GridRankOf<Number>::Load(const truth::TokenBatch& batch, int micro_batch) {
  const std::int64_t samples = case_.options.samples / case_.z;
  const std::int64_t first = (micro_batch * case_.options.samples + grid_->coordinate(Axis::kZ) * samples) * batch.sequence;
  const std::size_t bytes = static_cast<std::size_t>(samples * batch.sequence) * 4;
  const int slot = case_.split ? micro_batch : 0;
  const StageSlots slots{.stash = slot, .input = slot, .handoff = slot};
  std::memcpy(stage_->input(slots), batch.tokens.data() + first, bytes);
  std::memcpy(stage_->labels(slots), batch.labels.data() + first, bytes);
}

template <typename Number>
void GridRankOf<Number>::RunMicroBatches(const truth::TokenBatch& batch, double loss_tokens, GridResult& result) {
  const GridSizes sizes = FitGpt(case_.options)->sizes;
  std::vector<Number> logits(static_cast<std::size_t>(sizes.rows_zx * sizes.vocabulary));
  sample_losses_.assign(static_cast<std::size_t>(sizes.samples), 0);
  StageContext context{
      .stream = stream_.get(), .seed = kGridSeed, .gradient_scale = 1 / loss_tokens, .sample_losses = sample_losses_.data()};
  context.logits = {logits.data(), DTypeOf<Number>::value, {sizes.rows_zx, sizes.vocabulary}};
  const auto at = [&](int m) -> StageContext& {
    context.samples = {m * case_.options.samples, case_.options.samples};
    if (faults_.local_samples) context.samples.begin -= grid_->coordinate(Axis::kZ) * sizes.samples;
    return context;
  };
  const auto slots = [&](int m) {
    const int slot = case_.split ? m : 0;
    return StageSlots{.stash = slot, .input = slot, .handoff = slot};
  };
  const auto forward = [&](int m) {
    Load(batch, m);
    stage_->Forward(at(m), slots(m), nullptr);
    for (const double loss : sample_losses_) loss_ += static_cast<Number>(loss);
  };
  for (int m = 0; m < case_.micro_batches; ++m) {
    forward(m);
    PutLogits(m, logits, result);
    if (case_.split) continue;
    stage_->Backward(at(m), slots(m), nullptr, nullptr);
    memory_->Poison(Area::kTransient);
  }
  if (!case_.split) return;
  for (int m = 0; m < case_.micro_batches; ++m) {
    stage_->BackwardInput(at(m), slots(m), nullptr, nullptr);
    memory_->Poison(Area::kTransient);
  }
  for (int m = case_.micro_batches - 1; m >= 0; --m) {
    stage_->BackwardWeight(at(m), slots(m));
    memory_->Poison(Area::kTransient);
  }
}

template <typename Number>
Status GridRankOf<Number>::Step(const truth::TokenBatch& batch, GridResult& result) {
  const double loss_tokens = static_cast<double>(std::ranges::count_if(batch.labels, [](int label) { return label >= 0; }));
  exchange_->Gather(*stream_);
  RunMicroBatches(batch, loss_tokens, result);
  exchange_->Reduce(*stream_);
  SumLoss(*stream_, *grid_, {&loss_, DTypeOf<Number>::value, {1}});
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  if (!memory_->BordersAreIntact()) return absl::InternalError("a kernel wrote outside its memory");
  Put(result);
  return OkStatus();
}

template <typename Number>
Status GridRankOf<Number>::StepAgain() {
  StageContext context{
      .stream = stream_.get(), .seed = kGridSeed, .samples = {0, case_.options.samples}, .sample_losses = sample_losses_.data()};
  const StageSlots slots{.stash = 0, .input = 0, .handoff = 0};
  exchange_->Gather(*stream_);
  for (int m = 0; m < case_.micro_batches; ++m) {
    stage_->Forward(context, slots, nullptr);
    if (case_.split) {
      stage_->BackwardInput(context, slots, nullptr, nullptr);
      stage_->BackwardWeight(context, slots);
    } else {
      stage_->Backward(context, slots, nullptr, nullptr);
    }
  }
  exchange_->Reduce(*stream_);
  return stream_->Synchronize();
}

template <typename Number>
void GridRankOf<Number>::PutLogits(int micro_batch, const std::vector<Number>& logits, GridResult& result) const {
  const GridSizes sizes = FitGpt(case_.options)->sizes;
  const std::int64_t V = case_.options.model.vocab, T = case_.options.sequence;
  const std::int64_t row =
      (micro_batch * case_.options.samples) * T + grid_->coordinate(Axis::kZ) * sizes.rows_z + grid_->coordinate(Axis::kX) * sizes.rows_zx;
  const std::int64_t column = grid_->coordinate(Axis::kY) * sizes.vocabulary;
  std::lock_guard<std::mutex> lock(result.mutex);
  result.logits.resize(static_cast<std::size_t>(case_.micro_batches * case_.options.samples * T * V));
  for (std::int64_t r = 0; r < sizes.rows_zx; ++r) {
    for (std::int64_t c = 0; c < sizes.vocabulary && column + c < V; ++c) {
      result.logits[static_cast<std::size_t>((row + r) * V + column + c)] = logits[static_cast<std::size_t>(r * sizes.vocabulary + c)];
    }
  }
}

template <typename Number>
void GridRankOf<Number>::Put(GridResult& result) {
  std::lock_guard<std::mutex> lock(result.mutex);
  if (grid_->coordinate(Axis::kY) == 0) result.loss = loss_;
  for (const GridParameter& parameter : parameters_) {
    if (parameter.exchange == Exchange::kHandOver) continue;
    const std::size_t count = static_cast<std::size_t>(parameter.tensor_shape.elements());
    std::vector<double>&weights = result.weights[parameter.tensor], &gradients = result.gradients[parameter.tensor];
    std::vector<int>& owners = result.owners[parameter.tensor];
    weights.resize(count), gradients.resize(count), owners.resize(count);
    for (const ElementRun& run : parameter.OwnedRuns(*grid_)) {
      for (std::int64_t i = 0; i < run.count; ++i) {
        const std::size_t local = static_cast<std::size_t>(run.local + i);
        const double gradient = OwnedGradient(parameter)[local];
        if (run.tensor < 0) {
          // Padding must stay zero without anybody's care.
          if (gradient != 0 || Owned(parameter)[local] != 0) gradients[0] = std::nan("");
          continue;
        }
        const std::size_t global = static_cast<std::size_t>(run.tensor + i);
        gradients[global] += gradient;
        if (parameter.use > 0) continue;
        weights[global] = Owned(parameter)[local];
        ++owners[global];
      }
    }
  }
}

template class GridRankOf<double>;
template class GridRankOf<float>;

truth::TokenBatch RandomBatch(const GridCase& c) {
  const RandomStream random(3, "tokens", 0);
  truth::TokenBatch batch{.samples = static_cast<int>(c.options.samples) * c.micro_batches,
                          .sequence = static_cast<int>(c.options.sequence)};
  for (int i = 0; i < batch.samples * batch.sequence; ++i) {
    const std::uint32_t vocabulary = static_cast<std::uint32_t>(c.options.model.vocab), place = static_cast<std::uint32_t>(3 * i);
    batch.tokens.push_back(static_cast<std::int32_t>(random.Bits(place) % vocabulary));
    batch.labels.push_back(random.Bits(place + 1) % 7 == 0 ? -1 : static_cast<std::int32_t>(random.Bits(place + 2) % vocabulary));
  }
  return batch;
}

truth::GptSizes TruthSizes(const GptConfig& m) {
  return {.blocks = static_cast<int>(m.layers),
          .width = static_cast<int>(m.hidden),
          .heads = static_cast<int>(m.heads),
          .kv_heads = static_cast<int>(m.kv_heads),
          .ffn = static_cast<int>(m.ffn),
          .context = static_cast<int>(m.context),
          .vocabulary = static_cast<int>(m.vocab),
          .tied = m.tied,
          .rope_base = m.rotary() ? m.rope_base : 0,
          .llama = m.family == GptFamily::kLlama,
          .norm_eps = m.norm_eps};
}

Status RunGrid(const GridCase& c, GridResult& result, const GridFaults& faults, const std::function<Status(const GridRank&)>& check) {
  const truth::TokenBatch batch = RandomBatch(c);
  return RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<GridRank> rank, GridRank::Create(world, c, faults));
    LYCIA_RETURN_IF_ERROR(rank->Step(batch, result));
    return check ? check(*rank) : OkStatus();
  });
}

Status RunGridInF32(const GridCase& c, GridResult& result) {
  const truth::TokenBatch batch = RandomBatch(c);
  return RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<GridRankOf<float>> rank, GridRankOf<float>::Create(world, c));
    return rank->Step(batch, result);
  });
}

}  // namespace lycia
