// What a trainer decides before its first step: the stages of the model, the proven programs, every byte, every communicator.
#include <algorithm>
#include <optional>
#include <set>

#include "launch/trainer.h"
#include "launch/training_schedule.h"
#include "launch/user_schedule.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;

GroupMember MemberOf(const std::vector<int>& colors, int rank) {
  GroupMember member{0, 0};
  for (std::size_t r = 0; r < colors.size(); ++r) {
    if (colors[r] != colors[static_cast<std::size_t>(rank)]) continue;
    if (static_cast<int>(r) < rank) ++member.rank;
    ++member.size;
  }
  return member;
}

// Of the model itself, however it is cut.
struct WholeModel {
  std::int64_t num_parameters = 0;
  double forward_flops = 0;  // of one micro-batch
};
StatusOr<WholeModel> MeasureModel(const TrainerOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(const RankModel whole, RankModel::Create({.model = options.model, .samples = options.samples_per_micro_batch}));
  LYCIA_ASSIGN_OR_RETURN(const RankModel::Stage stage, whole.MakeStage(0, whole.num_layers(), {.compute = options.precision}));
  LYCIA_ASSIGN_OR_RETURN(const ParameterGroups groups, DeriveParameterGroups({stage.stored}));
  return WholeModel{groups.num_parameters, stage.stage->forward_flops()};
}

StatusOr<std::unique_ptr<Device>> OpenDevice(const TrainerOptions& options) {
  if (options.device == DeviceKind::kCuda) return NewCudaDevice(options.gpu, options.cuda);
  return options.device == DeviceKind::kShape ? NewShapeDevice() : NewCpuDevice(options.cpu);
}

}  // namespace

// Plans the whole model once, without memory, to learn its costs, boundaries and parameters.
Status Trainer::PlanModel() {
  if (grid_ranks() > 1) {
    if (options_.emulation) {
      return InvalidArgument("an emulated device computes nothing that a tensor grid could cut, but the grid is ", options_.x, " x ",
                             options_.y, " x ", options_.z, "; use parallel.x = y = z = 1 with parallel.device = \"emulated\"");
    }
    LYCIA_ASSIGN_OR_RETURN(grid_, Grid::Create(*world_, *mesh_));
  }
  LYCIA_ASSIGN_OR_RETURN(RankModel made, RankModel::Create({.model = options_.model,
                                                            .samples = options_.samples_per_micro_batch,
                                                            .grid = grid_.get(),
                                                            .policy = options_.grid_policy,
                                                            .weights_each_step = options_.weights_each_step}));
  model_ = std::make_unique<RankModel>(std::move(made));
  LYCIA_ASSIGN_OR_RETURN(const WholeModel measured, MeasureModel(options_));
  num_parameters_ = measured.num_parameters;
  forward_flops_ = measured.forward_flops;
  LYCIA_ASSIGN_OR_RETURN(const RankModel::Stage model, model_->MakeStage(0, model_->num_layers(), {.compute = options_.precision}));
  LYCIA_ASSIGN_OR_RETURN(const ParameterGroups whole, DeriveParameterGroups({model.stored}));
  LYCIA_ASSIGN_OR_RETURN(TrainingSchedule planned, PlanTrainingSchedule({.options = options_,
                                                                         .layers = model.stage->plans(),
                                                                         .num_parameters = whole.num_parameters,
                                                                         .message_bytes = model_->message_bytes(options_.precision)}));
  reuse_specs_ = model.stage->reuses();
  why_ = std::move(planned.why);
  compute_ = std::move(planned.compute);
  cuts_ = std::move(planned.cuts);
  costs_ = std::move(planned.costs);

  std::vector<std::vector<ParameterSpec>> of_stage;
  for (std::size_t stage = 0; stage + 1 < cuts_.size(); ++stage) {
    LYCIA_ASSIGN_OR_RETURN(RankModel::Stage part, model_->MakeStage(cuts_[stage], cuts_[stage + 1], {.compute = options_.precision}));
    of_stage.push_back(std::move(part.stored));
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
  if (options_.update == schedule::UpdateMode::kEager && options_.precision == DType::kF16) {
    return InvalidArgument("train.update = \"eager\" steps a stage before it is known whether a gradient has overflowed, which f16 needs; ",
                           "use train.update = \"decided\", or bf16");
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
  LayerStage::Options options{
      .compute = options_.precision, .device = options_.device, .recompute = options_.recompute, .full_backward = false};
  std::set<int> parts = {1};  // an evaluation's
  int forwards = 0;
  for (const schedule::Instruction& instruction : training_.instructions) {
    if (!schedule::IsCompute(instruction.op) || instruction.pipe != pipe || instruction.stage != stage) continue;
    options.full_backward |= instruction.op == schedule::Op::kBackward;
    options.split_backward |= instruction.op == schedule::Op::kBackwardInput;
    parts.insert(instruction.parts);
    forwards += instruction.op == schedule::Op::kForward ? 1 : 0;
  }
  options.packed_weights = options_.packed_weights == PackedWeights::kOn ||
                           (options_.packed_weights == PackedWeights::kAuto && forwards > 1 && options_.precision != DType::kF64);
  options.parts.assign(parts.begin(), parts.end());
  return options;
}

// Where the stages of this rank lie, and what they declare.
struct Trainer::StageMemory {
  struct Slots {
    std::vector<Region> stash, input, handoff;
    std::optional<Region> packed;
  };
  std::map<std::pair<int, int>, Slots> slots;
  Region transient;
  std::set<int> stages;
  std::map<int, std::vector<StateSpec>> states;  // by stage
  std::vector<ParameterSpec> uses;
  std::vector<GridParameter> grid_parameters;
};

Status Trainer::PlanStages(ArenaPlan& plan, StageMemory& memory) {
  std::int64_t transient_bytes = 0;
  for (int pipe = 0; pipe < schedule_.shape.pipes; ++pipe) {
    for (int stage = 0; stage < schedule_.shape.stages; ++stage) {
      const auto p = static_cast<std::size_t>(pipe), s = static_cast<std::size_t>(stage);
      if (schedule_.worker_of[p][s] != worker_) continue;
      LYCIA_ASSIGN_OR_RETURN(RankModel::Stage made, model_->MakeStage(cuts_[s], cuts_[s + 1], OptionsOfStage(pipe, stage)));
      const auto add = [&](const char* category, const auto& training, const auto& evaluation, Area area, std::vector<Region>& regions) {
        const int count = std::max(training[p][s], evaluation[p][s]);
        for (int slot = 0; slot < count; ++slot) regions.push_back(plan.Add(category, made.stage->bytes(area)));
      };
      StageMemory::Slots& of_stage = memory.slots[{pipe, stage}];
      add("activations", schedule_.stash_slots, forward_.stash_slots, Area::kStash, of_stage.stash);
      add("activations", schedule_.input_slots, forward_.input_slots, Area::kInput, of_stage.input);
      add("handoffs", schedule_.handoff_slots, forward_.handoff_slots, Area::kHandoff, of_stage.handoff);
      if (const std::int64_t bytes = made.stage->packed_bytes(); bytes > 0) of_stage.packed = plan.Add("packed weights", bytes);
      transient_bytes = std::max(transient_bytes, made.stage->bytes(Area::kTransient));
      memory.uses.insert(memory.uses.end(), made.stored.begin(), made.stored.end());
      memory.grid_parameters.insert(memory.grid_parameters.end(), made.grid_parameters.begin(), made.grid_parameters.end());
      memory.stages.insert(stage);
      memory.states[stage] = made.stage->states();
      for (const GridState& state : made.grid_states) grid_states_[state.name] = state;
      stages_[{pipe, stage}] = std::move(made.stage);
    }
  }
  memory.transient = plan.Add("transient", transient_bytes);
  for (const auto& [stage, states] : memory.states) LYCIA_RETURN_IF_ERROR(CheckStates(states, options_.samples_per_micro_batch));
  if (options_.reuse.layers.on) {
    std::set<std::string> local;
    for (const auto& [key, stage] : stages_) {
      for (const ReuseSpec& spec : stage->reuses()) local.insert(spec.name);
    }
    LYCIA_ASSIGN_OR_RETURN(reuse_, ReuseControl::Create(options_.reuse, reuse_specs_, local, options_.precision, plan));
  }
  states_ = std::make_unique<StateStore>(memory.states, samples_per_step(), ArithmeticDType(options_.precision), plan);
  return OkStatus();
}

Status Trainer::PlanWeights(const StageMemory& memory, ArenaPlan& plan) {
  std::vector<int> local_groups;
  std::map<std::string, int> group_of;
  std::map<int, GroupMember> members;
  for (std::size_t g = 0; g < groups_->groups.size(); ++g) {
    const ParameterGroup& group = groups_->groups[g];
    if (std::none_of(group.stages.begin(), group.stages.end(), [&](int s) { return memory.stages.contains(s); })) continue;
    local_groups.push_back(static_cast<int>(g));
    const std::vector<int> workers = schedule::WorkersOfSyncSet(schedule_, {group.stages});
    members[static_cast<int>(g)] = MemberOf(mesh_->ColorsOfHolders(workers), world_->rank());
    for (const PlacedParameter& parameter : group.parameters) group_of[parameter.spec.name] = static_cast<int>(g);
  }
  store_ = std::make_unique<ParameterStore>(*groups_, local_groups, memory.uses, options_.precision, /*gradients=*/true, plan);
  if (grid_ != nullptr) {
    working_weights_ = std::make_unique<WorkingWeights>(
        *grid_, options_.precision, memory.grid_parameters, [&](const std::string& name) { return group_of.at(name); }, plan);
  }
  ShardedAdamW::Args args{.options = options_.optimizer, .members = members, .samples = samples_per_step(), .dtype = options_.precision};
  if (options_.precision == DType::kF16) args.loss_scale = options_.loss_scale;
  optimizer_ = std::make_unique<ShardedAdamW>(*store_, args, plan);
  return OkStatus();
}

void Trainer::BindStages(const StageMemory& memory) {
  store_->Bind(arena_);
  states_->Bind(arena_);
  if (working_weights_ != nullptr) {
    working_weights_->Bind(arena_, {.weight = [this](const std::string& name) { return store_->weight(name); },
                                    .gradient = [this](const std::string& name, int use) { return store_->gradient(name, use); }});
  }
  for (auto& [key, stage] : stages_) {
    const StageMemory::Slots& slots = memory.slots.at(key);
    LayerStage::Memory of_stage;
    for (const Region& region : slots.stash) of_stage.stash.push_back(arena_.At(region));
    for (const Region& region : slots.input) of_stage.input.push_back(arena_.At(region));
    for (const Region& region : slots.handoff) of_stage.handoff.push_back(arena_.At(region));
    of_stage.transient = arena_.At(memory.transient);
    of_stage.weight = [this](const std::string& name) { return working_weights_ ? working_weights_->weight(name) : store_->weight(name); };
    of_stage.gradient = [this](const std::string& name, int use) {
      return working_weights_ ? working_weights_->gradient(name, use) : store_->gradient(name, use);
    };
    if (!working_weights_) of_stage.fresh = [this](const std::string& name, int use) { return store_->fresh(name, use); };
    of_stage.state = [this](const std::string& name) { return states_->entry(name).state; };
    of_stage.observations = [this](const std::string& name) { return states_->entry(name).observations; };
    if (reuse_ != nullptr) of_stage.reuse = [this](const std::string& name) { return reuse_->slot(name); };
    if (slots.packed) of_stage.packed = arena_.At(*slots.packed);
    stage->Bind(of_stage);
  }
}

Status Trainer::PlanMemory() {
  LYCIA_ASSIGN_OR_RETURN(device_, OpenDevice(options_));
  ArenaPlan plan;
  StageMemory memory;
  LYCIA_RETURN_IF_ERROR(PlanStages(plan, memory));
  LYCIA_RETURN_IF_ERROR(PlanWeights(memory, plan));
  Executor::Args executor{.schedule = &schedule_,
                          .evaluation = &forward_,
                          .worker = worker_,
                          .pipeline = nullptr,
                          .credits = options_.credits,
                          .observer = options_.observer};
  for (const auto& [key, stage] : stages_) {
    executor.stages[key] = stage.get();
    if (CanCapture()) executor.stages[key] = graph_stages_.emplace_back(std::make_unique<GraphStage>(*stage)).get();
  }
  if (CanCapture()) graph_trial_.emplace(options_.cuda_graphs);
  LYCIA_ASSIGN_OR_RETURN(pipeline_, world_->Split(mesh_->ColorsAlong({Axis::kPipeline})));
  executor.pipeline = pipeline_.get();
  executor_ = std::make_unique<Executor>(std::move(executor), plan);
  const std::int64_t samples = options_.samples_per_micro_batch;
  const TensorSpec evaluated{DType::kF64, {2, samples_per_step()}};
  const Region evaluated_region = plan.Add("batches", evaluated);

  memory_plan_ = plan;
  LYCIA_ASSIGN_OR_RETURN(arena_, Arena::Allocate(*device_, plan));
  LYCIA_ASSIGN_OR_RETURN(stream_, device_->NewStream());
  stream_->set_guard(options_.guard);
  host_ = std::make_unique<HostAccess>(*device_, *stream_);
  LYCIA_ASSIGN_OR_RETURN(batches_, BatchStaging::Create(*device_, std::max(InputOf(options_.model, samples).bytes(),
                                                                           LabelsOf(options_.model, samples).bytes())));
  evaluated_ = arena_.At(evaluated_region, evaluated);
  if (reuse_ != nullptr) LYCIA_RETURN_IF_ERROR(reuse_->Bind(arena_, *device_));
  BindStages(memory);
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

}  // namespace lycia
