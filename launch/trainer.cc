#include "launch/trainer.h"

#include <algorithm>
#include <set>

#include "launch/training_schedule.h"
#include "launch/user_schedule.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;

// Layers [cuts[stage], cuts[stage + 1]) of a fresh copy of the model.
std::vector<std::unique_ptr<Layer>> LayersOfStage(const GptConfig& model, const std::vector<int>& cuts, int stage) {
  std::vector<std::unique_ptr<Layer>> all = GptLayers(model);
  std::vector<std::unique_ptr<Layer>> layers;
  for (int i = cuts[static_cast<std::size_t>(stage)]; i < cuts[static_cast<std::size_t>(stage) + 1]; ++i) {
    layers.push_back(std::move(all[static_cast<std::size_t>(i)]));
  }
  return layers;
}

GroupMember MemberOf(const std::vector<int>& colors, int rank) {
  GroupMember member{0, 0};
  for (std::size_t r = 0; r < colors.size(); ++r) {
    if (colors[r] != colors[static_cast<std::size_t>(rank)]) continue;
    if (static_cast<int>(r) < rank) ++member.rank;
    ++member.size;
  }
  return member;
}

}  // namespace

Trainer::~Trainer() {
  if (clock_ != nullptr) clock_->Stop();
}

StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const TrainerOptions& options, Communicator& world) {
  std::unique_ptr<Trainer> trainer(new Trainer(options, world));
  Mesh::Spec spec{.pipeline = options.stages, .data = options.data};
  if (!options.mesh_order.empty()) spec.order = options.mesh_order;
  LYCIA_ASSIGN_OR_RETURN(Mesh mesh, Mesh::Create(spec, world.size()));
  trainer->mesh_ = std::make_unique<Mesh>(std::move(mesh));
  trainer->worker_ = trainer->mesh_->coordinate(world.rank(), Axis::kPipeline);
  trainer->replica_ = trainer->mesh_->coordinate(world.rank(), Axis::kData);
  LYCIA_RETURN_IF_ERROR(trainer->PlanModel());
  LYCIA_RETURN_IF_ERROR(trainer->PlanSchedule());
  if (options.emulation) LYCIA_RETURN_IF_ERROR(trainer->PlanEmulation());
  LYCIA_RETURN_IF_ERROR(trainer->PlanMemory());
  LYCIA_RETURN_IF_ERROR(trainer->OpenChannels());
  trainer->store_->Initialise(options.seed);
  return trainer;
}

// Plans the whole model once, without memory, to learn its costs, boundaries and parameters.
Status Trainer::PlanModel() {
  LYCIA_RETURN_IF_ERROR(Validate(options_.model));
  const std::vector<TensorSpec> tokens = {{DType::kI32, {options_.samples_per_micro_batch, options_.model.context}}};
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<LayerStage> model,
                         LayerStage::Create(GptLayers(options_.model), tokens, {.compute = options_.precision}));
  forward_flops_ = model->forward_flops();
  LYCIA_ASSIGN_OR_RETURN(const ParameterGroups whole, DeriveParameterGroups({model->parameters()}));
  const TensorSpec boundary{options_.precision, {options_.samples_per_micro_batch, options_.model.context, options_.model.hidden}};
  LYCIA_ASSIGN_OR_RETURN(
      TrainingSchedule planned,
      PlanTrainingSchedule(
          {.options = options_, .layers = model->plans(), .num_parameters = whole.num_parameters, .message_bytes = boundary.bytes()}));
  why_ = std::move(planned.why);
  compute_ = std::move(planned.compute);
  cuts_ = std::move(planned.cuts);
  costs_ = std::move(planned.costs);

  const int stages = compute_.shape.stages;
  std::vector<std::vector<ParameterSpec>> of_stage(static_cast<std::size_t>(stages));
  stage_inputs_ = {tokens};
  for (int stage = 0; stage < stages; ++stage) {
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<LayerStage> part, LayerStage::Create(LayersOfStage(options_.model, cuts_, stage),
                                                                                stage_inputs_.back(), {.compute = options_.precision}));
    of_stage[static_cast<std::size_t>(stage)] = part->parameters();
    stage_inputs_.emplace_back(part->outputs().begin(), part->outputs().end());
  }
  LYCIA_ASSIGN_OR_RETURN(ParameterGroups groups, DeriveParameterGroups(of_stage));
  groups_ = std::make_unique<ParameterGroups>(std::move(groups));
  return OkStatus();
}

Status Trainer::PlanSchedule() {
  if (options_.update == schedule::UpdateMode::kEager && options_.optimizer.clip > 0) {
    return InvalidArgument("train.update = \"eager\" steps a stage before the gradient norm of the model is known, which train.clip = ",
                           options_.optimizer.clip, " needs; use train.clip = 0 or train.update = \"decided\"");
  }
  schedule::CompleteOptions complete{.sync = options_.gradient_sync, .update = options_.update};
  if (options_.emulation) {
    LYCIA_ASSIGN_OR_RETURN(emulated_costs_, schedule::InNanoseconds(costs_, kNsPerMs));
    complete.costs = emulated_costs_;
  } else {
    LYCIA_ASSIGN_OR_RETURN(complete.costs, schedule::ToTicks(costs_, schedule::TickDivisor(compute_)));
  }
  for (const ParameterGroup& group : groups_->groups) {
    if (group.stages.size() > 1) complete.tied.push_back({group.stages});
  }
  schedule_ = schedule::Complete(compute_, complete);
  const Status proven = schedule::Verify(schedule_, {.credits = std::max(options_.credits, schedule_.credits)});
  LYCIA_RETURN_IF_ERROR(options_.schedule_csv.empty() ? proven : FirstLine(proven, options_.schedule_file));
  for (std::size_t g = 0; g < groups_->groups.size(); ++g) LYCIA_CHECK(schedule_.sync_sets[g].stages == groups_->groups[g].stages);
  training_ = ProgramOf(schedule_, worker_);

  forward_ = schedule::Complete(schedule::ForwardOnly(compute_, static_cast<int>(options_.micro_batches)));
  LYCIA_RETURN_IF_ERROR(schedule::Verify(forward_, {.training = false, .credits = options_.credits}));
  evaluation_ = ProgramOf(forward_, worker_);
  return OkStatus();
}

LayerStage::Options Trainer::OptionsOfStage(int pipe, int stage) const {
  LayerStage::Options options{.compute = options_.precision, .recompute = options_.recompute, .full_backward = false};
  std::set<int> parts = {1};  // an evaluation's
  for (const schedule::Instruction& instruction : training_.instructions) {
    if (!schedule::IsCompute(instruction.op) || instruction.pipe != pipe || instruction.stage != stage) continue;
    options.full_backward |= instruction.op == schedule::Op::kBackward;
    options.split_backward |= instruction.op == schedule::Op::kBackwardInput;
    parts.insert(instruction.parts);
  }
  options.parts.assign(parts.begin(), parts.end());
  return options;
}

Status Trainer::PlanMemory() {
  device_ = options_.device == DeviceKind::kShape ? NewShapeDevice() : NewCpuDevice();
  ArenaPlan plan;
  std::vector<ParameterSpec> uses;
  struct Slots {
    std::vector<Region> stash, input, handoff;
  };
  std::map<std::pair<int, int>, Slots> slots;
  std::map<std::pair<int, int>, Stage*> stage_pointers;
  std::int64_t transient_bytes = 0;
  std::set<int> local_stages;
  for (int pipe = 0; pipe < schedule_.shape.pipes; ++pipe) {
    for (int stage = 0; stage < schedule_.shape.stages; ++stage) {
      if (schedule_.worker_of[static_cast<std::size_t>(pipe)][static_cast<std::size_t>(stage)] != worker_) continue;
      LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<LayerStage> made,
                             LayerStage::Create(LayersOfStage(options_.model, cuts_, stage), stage_inputs_[static_cast<std::size_t>(stage)],
                                                OptionsOfStage(pipe, stage)));
      const auto add = [&, p = static_cast<std::size_t>(pipe), s = static_cast<std::size_t>(stage)](
                           const char* category, const auto& training, const auto& evaluation, Area area, std::vector<Region>& regions) {
        const int count = std::max(training[p][s], evaluation[p][s]);
        for (int slot = 0; slot < count; ++slot) regions.push_back(plan.Add(category, made->bytes(area)));
      };
      Slots& of_stage = slots[{pipe, stage}];
      add("activations", schedule_.stash_slots, forward_.stash_slots, Area::kStash, of_stage.stash);
      add("activations", schedule_.input_slots, forward_.input_slots, Area::kInput, of_stage.input);
      add("handoffs", schedule_.handoff_slots, forward_.handoff_slots, Area::kHandoff, of_stage.handoff);
      transient_bytes = std::max(transient_bytes, made->bytes(Area::kTransient));
      for (const ParameterSpec& spec : made->parameters()) uses.push_back(spec);
      local_stages.insert(stage);
      stage_pointers[{pipe, stage}] = made.get();
      stages_[{pipe, stage}] = std::move(made);
    }
  }
  const Region transient = plan.Add("transient", transient_bytes);

  std::vector<int> local_groups;
  std::map<int, GroupMember> members;
  for (std::size_t g = 0; g < groups_->groups.size(); ++g) {
    const std::vector<int>& stages = groups_->groups[g].stages;
    if (std::none_of(stages.begin(), stages.end(), [&](int s) { return local_stages.contains(s); })) continue;
    local_groups.push_back(static_cast<int>(g));
    const std::vector<int> workers = schedule::WorkersOfSyncSet(schedule_, {stages});
    members[static_cast<int>(g)] = MemberOf(mesh_->ColorsOfHolders(workers), world_->rank());
  }
  store_ = std::make_unique<ParameterStore>(*groups_, local_groups, uses, options_.precision, /*gradients=*/true, plan);
  optimizer_ = std::make_unique<ShardedAdamW>(*store_, options_.optimizer, members, samples_per_step(), options_.precision, plan);
  Executor::Args executor{.schedule = &schedule_,
                          .evaluation = &forward_,
                          .worker = worker_,
                          .stages = stage_pointers,
                          .pipeline = nullptr,
                          .credits = options_.credits,
                          .observer = options_.observer};
  LYCIA_ASSIGN_OR_RETURN(pipeline_, world_->Split(mesh_->ColorsAlong({Axis::kPipeline})));
  executor.pipeline = pipeline_.get();
  executor_ = std::make_unique<Executor>(std::move(executor), plan);
  const TensorSpec staging{DType::kI32, {options_.samples_per_micro_batch, options_.model.context}};
  const TensorSpec losses{DType::kF64, {samples_per_step()}};
  const Region staging_region = plan.Add("batches", staging);
  const Region losses_region = plan.Add("batches", losses);

  memory_plan_ = plan;
  LYCIA_ASSIGN_OR_RETURN(arena_, Arena::Allocate(*device_, plan));
  LYCIA_ASSIGN_OR_RETURN(stream_, device_->NewStream());
  stream_->set_guard(options_.guard);
  staging_ = arena_.At(staging_region, staging);
  evaluation_losses_ = arena_.At(losses_region, losses);
  store_->Bind(arena_);
  for (auto& [key, stage] : stages_) {
    LayerStage::Memory memory;
    for (const Region& region : slots[key].stash) memory.stash.push_back(arena_.At(region));
    for (const Region& region : slots[key].input) memory.input.push_back(arena_.At(region));
    for (const Region& region : slots[key].handoff) memory.handoff.push_back(arena_.At(region));
    memory.transient = arena_.At(transient);
    memory.weight = [this](const std::string& name) { return store_->weight(name); };
    memory.gradient = [this](const std::string& name, int use) { return store_->gradient(name, use); };
    stage->Bind(memory);
  }
  return OkStatus();
}

Status Trainer::OpenChannels() {
  // Every rank splits for every group, in the one global order. Each group has a communicator of its own, because with eager updates
  // its holders do not agree on the order of one group's gather and another one's sum.
  std::map<int, Communicator*> holders;
  for (std::size_t g = 0; g < groups_->groups.size(); ++g) {
    const std::vector<int> workers = schedule::WorkersOfSyncSet(schedule_, {groups_->groups[g].stages});
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> made, world_->Split(mesh_->ColorsOfHolders(workers)));
    if (store_->holds(static_cast<int>(g))) holders[static_cast<int>(g)] = made.get();
    holders_.push_back(std::move(made));
  }
  hashes_.resize(static_cast<std::size_t>(world_->size()));
  LYCIA_RETURN_IF_ERROR(optimizer_->Bind(*device_, arena_, world_, holders));
  if (options_.emulation) LYCIA_RETURN_IF_ERROR(OpenClock(holders));
  return executor_->Open(arena_, clock_.get());
}

Status Trainer::TrainStep(std::int64_t step, const BatchSource& source, double learning_rate, bool stop) {
  source_ = &source;
  step_ = step;
  learning_rate_ = learning_rate;
  stop_ = stop;
  training_now_ = true;
  first_source_sample_ = 0;
  loss_tokens_ = std::max<std::int64_t>(1, source.LossTokens(step, 0, samples_per_step()));
  StageContext context{.stream = stream_.get(),
                       .seed = options_.seed,
                       .step = step,
                       .training = true,
                       .gradient_scale = 1.0 / static_cast<double>(loss_tokens_)};
  optimizer_->BeginStep(*stream_);
  const std::int64_t first_sample = replica_ * options_.micro_batches * options_.samples_per_micro_batch;
  LYCIA_RETURN_IF_ERROR(executor_->Run(training_, context, first_sample, options_.samples_per_micro_batch, *this));
  return stream_->Synchronize();
}

StatusOr<double> Trainer::Evaluate(const BatchSource& source, std::int64_t batches) {
  source_ = &source;
  training_now_ = false;
  double total = 0;
  for (std::int64_t batch = 0; batch < batches; ++batch) {
    first_source_sample_ = batch * samples_per_step();
    stream_->Zero(evaluation_losses_.data, evaluation_losses_.bytes());
    const std::int64_t first_sample = replica_ * options_.micro_batches * options_.samples_per_micro_batch;
    StageContext context{.stream = stream_.get(), .seed = options_.seed, .step = 0, .training = false};
    LYCIA_RETURN_IF_ERROR(executor_->Run(evaluation_, context, first_sample, options_.samples_per_micro_batch, *this));
    stream_->Wait(world_->AllReduce({.in = evaluation_losses_, .out = evaluation_losses_, .tag = Tag::kMetrics}, stream_->Record()));
    LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
    const double* losses = evaluation_losses_.as<double>();
    for (std::int64_t s = 0; losses != nullptr && s < samples_per_step(); ++s) total += losses[s];
  }
  return total;
}

void Trainer::LoadTokens(Stream& stream, const SampleRange& samples, void* to) {
  source_->Load(training_now_ ? step_ : 0, first_source_sample_ + samples.begin, samples.count, staging_.as<std::int32_t>(), nullptr);
  stream.Copy(to, staging_.data, samples.count * options_.model.context * SizeOf(DType::kI32));
}

void Trainer::LoadLabels(Stream& stream, const SampleRange& samples, void* to) {
  source_->Load(training_now_ ? step_ : 0, first_source_sample_ + samples.begin, samples.count, nullptr, staging_.as<std::int32_t>());
  stream.Copy(to, staging_.data, samples.count * options_.model.context * SizeOf(DType::kI32));
}

void Trainer::SynchronizeGradients(Stream& stream, int sync_set) { optimizer_->Synchronize(stream, sync_set); }

void Trainer::UpdateSet(Stream& stream, int sync_set) { optimizer_->UpdateGroup(stream, sync_set, step_, learning_rate_); }

void Trainer::Update(Stream& stream) { optimizer_->Update(stream, step_, learning_rate_, stop_); }

double* Trainer::SampleLosses(const SampleRange& samples) {
  if (!training_now_) return evaluation_losses_.as<double>() + samples.begin;
  return optimizer_->sample_losses() == nullptr ? nullptr : optimizer_->sample_losses() + samples.begin;
}

}  // namespace lycia
