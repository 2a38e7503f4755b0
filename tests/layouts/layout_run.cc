#include "tests/layouts/layout_run.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/schedule/generators.h"
#include "runtime/comm/transports.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "tests/layouts/random_images.h"
#include "tests/layouts/truth_run.h"

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

std::string Layout::Name() const {
  std::string name = StrCat(schedule, " D", stages, " W", data, " N", micro_batches, "x", samples);
  if (x * y * z > 1) name += StrCat(" grid ", x, "x", y, "x", z);
  if (kv_heads != 0) name += StrCat(" kv ", kv_heads);
  if (!policy.cache_inputs) name += " gathers inputs again";
  if (policy.cache_weights) name += " caches weights";
  if (!policy.cache_output_gradients) name += " gathers gradients again";
  if (!policy.overlap) name += " serial";
  if (weights_each_step) name += " weights each step";
  if (pipes != 0) name += StrCat(" pipes ", pipes);
  if (blocks != kBlocks) name += StrCat(" blocks ", blocks);
  if (sync != schedule::GradientSyncMode::kEagerOpt) name += sync == schedule::GradientSyncMode::kLazy ? " lazy sync" : " eager sync";
  if (update == schedule::UpdateMode::kEager) name += " eager update";
  if (!clip) name += " unclipped";
  if (!partition.empty()) name += StrCat(" partition ", absl::StrJoin(partition, "+"));
  if (recompute != Recompute::kNone) name += recompute == Recompute::kLayers ? " recompute layers" : " recompute stage";
  if (credits != 2) name += StrCat(" credits ", credits);
  if (!mesh_order.empty()) name += StrCat(" order ", mesh_order);
  if (rotary) name += " rotary";
  if (llama) name += " llama";
  if (device == DeviceKind::kCuda) name += " cuda";
  if (graphs != CudaGraphs::kAuto) name += graphs == CudaGraphs::kOn ? " graphs" : " without graphs";
  if (tf32) name += " tf32";
  if (threads != 1) name += StrCat(" threads ", threads);
  if (dropout != kDropout) name += StrCat(" dropout ", dropout);
  if (reuse) name += StrCat(" reuse ", static_cast<int>(reuse->layers.policy), reuse->always ? " always" : "");
  if (loss_scale != Layout().loss_scale) name += StrCat(" loss scale ", loss_scale);
  if (images) return StrCat(name, " images of kind ", static_cast<int>(images->kind), " ", masked ? "masked " : "", lycia::Name(precision));
  return StrCat(name, tied ? " tied " : " untied ", masked ? "masked " : "", lycia::Name(precision));
}

std::vector<Layout> LayoutsOf(const std::string& schedule, int workers) {
  std::vector<Layout> layouts;
  for (const int micro_batches : std::set<int>{1, workers - 1, workers, 2 * workers, 2 * workers + 2}) {
    const StatusOr<schedule::Schedule> generated = schedule::Generate(schedule, {.workers = workers, .micro_batches = micro_batches});
    if (!generated.ok()) continue;
    // The planner may choose another number of stages once it knows the run's costs, and halves.
    const bool open = schedule == "auto";
    const int stages = open ? 2 * workers : generated->shape.stages, parts = open ? 2 : schedule::MaxParts(*generated);
    Layout layout{.schedule = schedule, .stages = workers, .micro_batches = micro_batches, .samples = parts};
    layout.blocks = std::max(kBlocks, (stages - 1) / 2);  // 2 blocks + 2 layers, at least one a stage
    layouts.push_back(layout);
  }
  return layouts;
}

std::vector<Layout> GridLayouts() {
  struct Shape {
    int x, y, z;
  };
  std::vector<Layout> layouts;
  for (const Shape& grid : {Shape{1, 1, 1}, {1, 2, 1}, {2, 1, 1}, {1, 1, 2}, {2, 2, 1}, {2, 2, 2}, {3, 2, 1}}) {
    for (const char* schedule : {"gpipe", "1f1b", "chimera", "chimera-zb"}) {
      for (const int data : {1, 2}) {
        layouts.push_back({.schedule = schedule,
                           .stages = std::string(schedule) == "gpipe" ? 1 : 2,
                           .data = data,
                           .micro_batches = 3,
                           .samples = 2,
                           .masked = true,
                           .x = grid.x,
                           .y = grid.y,
                           .z = grid.z,
                           .heads = 12,
                           .width = 24});
      }
    }
  }
  return layouts;
}

TrainerOptions OptionsOf(const Layout& layout) {
  TrainerOptions options;
  options.model = GptConfig{.family = layout.llama ? GptFamily::kLlama : GptFamily::kGpt2,
                            .layers = layout.blocks,
                            .heads = layout.heads,
                            .kv_heads = layout.kv_heads,
                            .hidden = layout.width,
                            .context = kContext,
                            .vocab = kVocabulary,
                            .ffn = kFfn,
                            .tied = layout.tied,
                            .dropout = layout.dropout,
                            .init_std = kInitialStd,
                            .norm_eps = layout.norm_eps(),
                            .position = layout.rotary || layout.llama ? PositionEncoding::kRotary : PositionEncoding::kLearned,
                            .rope_base = kRopeBase};
  if (layout.images) options.model = *layout.images;
  if (layout.reuse) {
    options.reuse = *layout.reuse;
    std::visit([&](auto& model) { model.reuse = layout.reuse->layers; }, options.model);
  }
  options.cpu.threads = layout.threads;
  options.x = layout.x;
  options.y = layout.y;
  options.z = layout.z;
  options.grid_policy = layout.policy;
  options.weights_each_step = layout.weights_each_step;
  options.precision = layout.precision;
  options.loss_scale = {.initial = layout.loss_scale, .least = std::min(layout.loss_scale, 1.0)};
  options.recompute = layout.recompute;
  options.packed_weights = layout.packed_weights;
  options.cuda_graphs = layout.graphs;
  options.cuda.tf32 = layout.tf32;
  options.schedule = layout.schedule;
  options.schedule_csv = layout.csv;
  options.schedule_file = layout.schedule;
  options.gradient_sync = layout.sync;
  options.update = layout.update;
  options.stages = layout.stages;
  options.pipes = layout.pipes;
  options.data = layout.data;
  options.mesh_order = layout.mesh_order;
  options.partition = layout.partition;
  options.micro_batches = layout.micro_batches;
  options.samples_per_micro_batch = layout.samples;
  options.optimizer = {.beta1 = kBeta1, .beta2 = kBeta2, .eps = kEps, .weight_decay = kWeightDecay, .clip = layout.clip ? kClip : 0};
  options.seed = kSeed;
  options.credits = layout.credits;
  options.device = layout.device;
  return options;
}

double LearningRateOf(std::int64_t step) { return truth::LearningRate(TruthOptions(Layout()), static_cast<int>(step)); }

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
