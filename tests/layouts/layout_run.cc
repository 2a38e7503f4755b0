#include "tests/layouts/layout_run.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/comm/transports.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "tests/layouts/random_images.h"

namespace lycia::layouts {
namespace {

// Widened, in the host's memory.
std::vector<double> Widen(Trainer& trainer, const Tensor& tensor) {
  std::vector<double> values;
  const Status read = trainer.host().Read(tensor, [&](const Tensor& host) {
    DispatchAnyStored(host.dtype, [&]<typename T>() { values.assign(host.as<T>(), host.as<T>() + host.elements()); });
    return OkStatus();
  });
  LYCIA_CHECK(read.ok()) << read.message();
  return values;
}

std::string Exact(double value) { return absl::StrFormat("%.17g", value); }

bool SameBits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

// Puts stored elements [begin, end) of a parameter into its tensor; what no rank has put stays NaN.
void Put(const Trainer::Stored& stored, std::int64_t begin, std::int64_t end, const double* values, Tensors& tensors) {
  std::vector<double>& to =
      tensors.try_emplace(stored.tensor, static_cast<std::size_t>(stored.shape.elements()), std::numeric_limits<double>::quiet_NaN())
          .first->second;
  if (stored.block.rows.empty()) {
    std::copy(values, values + (end - begin), to.begin() + begin);
    return;
  }
  end = std::min(end, stored.count);
  for (const ElementRun& run : Runs(stored.block, stored.begin + begin, stored.begin + end)) {
    if (run.tensor >= 0) std::copy(values + run.local, values + run.local + run.count, to.begin() + run.tensor);
  }
}

Tensors WeightsOf(Trainer& trainer) {
  Tensors weights;
  for (const int g : trainer.store().local_groups()) {
    for (const PlacedParameter& p : trainer.groups().groups[static_cast<std::size_t>(g)].parameters) {
      Put(trainer.stored(p.spec.name), 0, p.elements, Widen(trainer, trainer.store().weight(p.spec.name)).data(), weights);
    }
  }
  return weights;
}

// After a step a rank's gradient buffers hold the sums over ranks in its own shards, and only there; in f16 times the loss scale.
Tensors OwnGradientsOf(Trainer& trainer) {
  Tensors gradients;
  for (const int g : trainer.store().local_groups()) {
    const ParameterGroup& group = trainer.groups().groups[static_cast<std::size_t>(g)];
    std::vector<double> flat = Widen(trainer, trainer.store().flat_gradients(g));
    for (double& gradient : flat) gradient /= trainer.decision().loss_scale;
    const ShardedAdamW::Shard shard = trainer.optimizer().shard(g);
    for (const Segment& segment : SegmentsOf(group, shard.begin, shard.end)) {
      const PlacedParameter& p = *segment.parameter;
      Put(trainer.stored(p.spec.name), segment.begin, segment.end, flat.data() + p.offset + segment.begin, gradients);
    }
  }
  return gradients;
}

Tensors StatesOf(Trainer& trainer) {
  Tensors states;
  for (const Trainer::OwnState& own : trainer.States()) Put(own.stored, 0, own.state.elements(), Widen(trainer, own.state).data(), states);
  return states;
}

Status CompareWeights(const Tensors& a, const Tensors& b, const std::string& where) {
  for (const auto& [name, values] : a) {
    const auto other = b.find(name);
    if (other == b.end()) continue;
    if (other->second.size() != values.size()) return absl::InternalError(StrCat(where, ": ", name, " has two sizes"));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (SameBits(values[i], other->second[i]) || std::isnan(values[i]) || std::isnan(other->second[i])) continue;
      return absl::InternalError(StrCat(where, ": ", name, "[", i, "] is ", Exact(values[i]), " and ", Exact(other->second[i])));
    }
  }
  return OkStatus();
}

// Fills what is missing in `all`.
void MergeWeights(Tensors& all, const Tensors& one) {
  for (const auto& [name, values] : one) {
    std::vector<double>& to = all.try_emplace(name, values).first->second;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(to[i])) to[i] = values[i];
    }
  }
}

Status NothingIsMissing(const Tensors& tensors, const std::string& what) {
  for (const auto& [name, values] : tensors) {
    const auto missing = std::find_if(values.begin(), values.end(), [](double value) { return std::isnan(value); });
    if (missing != values.end()) return absl::InternalError(StrCat(what, " ", name, "[", missing - values.begin(), "] has no owner"));
  }
  return OkStatus();
}

// Adds another rank's record to `all`.
Status Merge(Record& all, const Record& one, int rank) {
  if (!SameBits(all.evaluation, one.evaluation) || all.hits != one.hits) {
    return absl::InternalError(StrCat("evaluation is ", all.evaluation, " on rank 0 and ", one.evaluation, " on rank ", rank));
  }
  for (std::size_t s = 0; s < one.steps.size(); ++s) {
    const std::string where = StrCat("step ", s, ", rank ", rank, " against lower ranks");
    StepRecord& to = all.steps[s];
    const StepRecord& from = one.steps[s];
    if (!SameBits(to.loss, from.loss) || !SameBits(to.grad_norm, from.grad_norm)) {
      return absl::InternalError(StrCat(where, ": loss ", to.loss, " and ", from.loss, ", norm ", to.grad_norm, " and ", from.grad_norm));
    }
    LYCIA_RETURN_IF_ERROR(CompareWeights(from.weights, to.weights, where));
    MergeWeights(to.weights, from.weights);
    LYCIA_RETURN_IF_ERROR(CompareWeights(from.states, to.states, where));
    MergeWeights(to.states, from.states);
    for (const auto& [name, values] : from.gradients) {
      std::vector<double>& sums = to.gradients.try_emplace(name, values.size(), std::numeric_limits<double>::quiet_NaN()).first->second;
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(values[i])) continue;
        if (!std::isnan(sums[i])) return absl::InternalError(StrCat(where, ": the gradient of ", name, "[", i, "] has two owners"));
        sums[i] = values[i];
      }
    }
  }
  return OkStatus();
}

}  // namespace

void RandomBatches::Load(std::int64_t step, std::int64_t first_sample, std::int64_t count, void* inputs, std::int32_t* labels) const {
  auto* tokens = static_cast<std::int32_t*>(inputs);
  const RandomStream text(kSeed, "layouts/text", static_cast<std::uint64_t>(step)),
      mask(kSeed, "layouts/mask", static_cast<std::uint64_t>(step));
  for (std::int64_t i = 0; i < count * kContext; ++i) {
    const std::int64_t sample = first_sample + i / kContext, t = i % kContext;
    auto token = [&](std::int64_t at) {
      return static_cast<std::int32_t>(text.Bits(static_cast<std::uint64_t>(sample * (kContext + 1) + at)) % kVocabulary);
    };
    const bool hidden = masked_ && mask.Bits(static_cast<std::uint64_t>(sample * kContext + t)) % 5 == 0;
    if (tokens != nullptr) tokens[i] = token(t);
    if (labels != nullptr) labels[i] = hidden ? -1 : token(t + 1);
  }
}

std::int64_t RandomBatches::LossTokens(std::int64_t step, std::int64_t first_sample, std::int64_t count) const {
  std::int64_t tokens = 0;
  std::int32_t labels[kContext];
  for (std::int64_t sample = first_sample; sample < first_sample + count; ++sample) {
    Load(step, sample, 1, nullptr, labels);
    for (const std::int32_t label : labels) tokens += label >= 0 ? 1 : 0;
  }
  return tokens;
}

std::unique_ptr<BatchSource> SourceOf(const Layout& layout) {
  if (layout.images) return std::make_unique<RandomImages>(*layout.images, layout.masked);
  return std::make_unique<RandomBatches>(layout.masked);
}

StatusOr<Record> RunRank(const Layout& layout, Communicator& world, RankWatch* watch) {
  const std::unique_ptr<BatchSource> batches = SourceOf(layout);
  const BatchSource& source = *batches;
  TrainerOptions options = OptionsOf(layout);
  if (watch != nullptr) options.observer = watch->observer();
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(options, world));
  Record record;
  for (int step = 0; step < kSteps; ++step) {
    if (watch != nullptr) watch->Start(*trainer, /*training=*/true);
    LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, source, LearningRateOf(step), /*stop=*/false));
    if (watch != nullptr) LYCIA_RETURN_IF_ERROR(watch->Finish(*trainer, /*training=*/true));
    if (!trainer->decision().finite || trainer->decision().stop) return absl::InternalError("the step was not finite, or was told to stop");
    LYCIA_RETURN_IF_ERROR(trainer->CompareReplicas());
    record.steps.push_back({.loss = trainer->loss(),
                            .grad_norm = trainer->decision().gradient_norm,
                            .weights = WeightsOf(*trainer),
                            .gradients = OwnGradientsOf(*trainer),
                            .states = StatesOf(*trainer)});
    if (step > 0) continue;
    if (watch != nullptr) watch->Start(*trainer, /*training=*/false);
    LYCIA_ASSIGN_OR_RETURN(const Trainer::Evaluation evaluation, trainer->Evaluate(source, kEvaluationBatches));
    record.evaluation = evaluation.loss;
    record.hits = evaluation.hits;
    if (watch != nullptr) LYCIA_RETURN_IF_ERROR(watch->Finish(*trainer, /*training=*/false));
  }
  return record;
}

Status OnRanks(const Layout& layout, const std::function<Status(Communicator&)>& body) {
  if (layout.device != DeviceKind::kCuda) return RunThreadRanks(layout.ranks(), body);
  return RunCudaThreadRanks(std::vector<int>(static_cast<std::size_t>(layout.ranks()), 0), body);
}

StatusOr<Record> RunOnThreads(const Layout& layout, const NewWatch& new_watch, const RunsRanks& on_ranks) {
  std::vector<Record> records(static_cast<std::size_t>(layout.ranks()));
  LYCIA_RETURN_IF_ERROR(on_ranks(layout, [&](Communicator& world) -> Status {
    const std::unique_ptr<RankWatch> watch = new_watch ? new_watch() : nullptr;
    LYCIA_ASSIGN_OR_RETURN(records[static_cast<std::size_t>(world.rank())], RunRank(layout, world, watch.get()));
    return OkStatus();
  }));
  Record all = std::move(records[0]);
  for (int rank = 1; rank < layout.ranks(); ++rank) LYCIA_RETURN_IF_ERROR(Merge(all, records[static_cast<std::size_t>(rank)], rank));
  for (const StepRecord& step : all.steps) {
    LYCIA_RETURN_IF_ERROR(NothingIsMissing(step.gradients, "the gradient of"));
    LYCIA_RETURN_IF_ERROR(NothingIsMissing(step.weights, "the weight"));
    LYCIA_RETURN_IF_ERROR(NothingIsMissing(step.states, "the state"));
  }
  return all;
}

Status CompareBitwise(const Record& a, const Record& b) {
  for (std::size_t s = 0; s < a.steps.size(); ++s) {
    const std::string where = StrCat("step ", s);
    LYCIA_RETURN_IF_ERROR(CompareWeights(a.steps[s].weights, b.steps[s].weights, where));
    LYCIA_RETURN_IF_ERROR(CompareWeights(a.steps[s].states, b.steps[s].states, where));
    if (SameBits(a.steps[s].loss, b.steps[s].loss) && SameBits(a.steps[s].grad_norm, b.steps[s].grad_norm)) continue;
    return absl::InternalError(
        StrCat(where, ": loss or norm differ: ", a.steps[s].loss - b.steps[s].loss, " and ", a.steps[s].grad_norm - b.steps[s].grad_norm));
  }
  if (SameBits(a.evaluation, b.evaluation) && a.hits == b.hits) return OkStatus();
  return absl::InternalError(StrCat("evaluation differs by ", a.evaluation - b.evaluation));
}

}  // namespace lycia::layouts
