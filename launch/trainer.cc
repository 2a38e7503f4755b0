#include "launch/trainer.h"

#include <algorithm>
#include <chrono>

#include "runtime/core/check.h"

namespace lycia {

Trainer::~Trainer() {
  if (clock_ != nullptr) clock_->Stop();
}

StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const TrainerOptions& options, Communicator& world) {
  if (options.precision == DType::kF16 && options.device == DeviceKind::kCpu) {
    return InvalidArgument("f16 is computed on GPUs only; use bf16, which needs no loss scaling, or parallel.device = \"cuda\"");
  }
  std::unique_ptr<Trainer> trainer(new Trainer(options, world));
  Mesh::Spec spec{.pipeline = options.stages, .data = options.data, .x = options.x, .y = options.y, .z = options.z};
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
  if (!options.emulation) {  // which has no data
    LYCIA_RETURN_IF_ERROR(trainer->InitialiseWeights());
    trainer->states_->Initialise(*trainer->stream_);
    if (trainer->reuse_ != nullptr) LYCIA_RETURN_IF_ERROR(trainer->reuse_->Initialise(*trainer->host_, options.seed));
    LYCIA_RETURN_IF_ERROR(trainer->PublishWeights());
  }
  return trainer;
}

Status Trainer::PublishWeights() {
  optimizer_->PublishWeights(*stream_);
  return stream_->Synchronize();
}

// Each owner its shard, by the tensor's own indices and on the CPU, so that the values are the same on all layouts and devices.
Status Trainer::InitialiseWeights() {
  LYCIA_ASSIGN_OR_RETURN(Stream* const stream, host_->ComputeStream());
  for (const OwnPart& part : OwnParts()) {
    LYCIA_RETURN_IF_ERROR(host_->Write(part.weight, [&](const Tensor& host) {
      FillInitial(*stream, {.block = part.stored.block.rows.empty() ? WholeTensor(part.stored.count) : part.stored.block,
                            .begin = part.stored.begin + part.begin,
                            .end = part.stored.begin + part.end,
                            .tensor = part.stored.tensor,
                            .initial = part.spec->initial,
                            .std = part.spec->std,
                            .seed = options_.seed,
                            .out = host});
      return stream->Synchronize();
    }));
  }
  return OkStatus();
}

std::vector<Trainer::OwnPart> Trainer::OwnParts() const {
  const auto elements = [](const Tensor& of, std::int64_t first, std::int64_t count) {
    char* data = static_cast<char*>(of.data);
    return Tensor{data == nullptr ? nullptr : data + first * SizeOf(of.dtype), of.dtype, {count}};
  };
  std::vector<OwnPart> parts;
  for (const int g : store_->local_groups()) {
    const ShardedAdamW::Shard shard = optimizer_->shard(g);
    for (const Segment& segment : SegmentsOf(groups_->groups[static_cast<std::size_t>(g)], shard.begin, shard.end)) {
      const PlacedParameter& p = *segment.parameter;
      Stored of = stored(p.spec.name);
      // What lies beyond is the rest of a part that is smaller than others, and zero.
      const std::int64_t end = std::min(segment.end, of.count), count = end - segment.begin;
      if (count <= 0) continue;
      const std::int64_t first = p.offset + segment.begin - shard.begin;
      parts.push_back({.spec = &p.spec,
                       .stored = std::move(of),
                       .begin = segment.begin,
                       .end = end,
                       .weight = elements(shard.weight, first, count),
                       .m = elements(shard.m, first, count),
                       .v = elements(shard.v, first, count)});
    }
  }
  return parts;
}

Trainer::Stored Trainer::stored(const std::string& name) const {
  if (working_weights_ == nullptr) {
    const Shape shape = store_->weight(name).shape;
    return {.tensor = name, .shape = shape, .block = {}, .count = shape.elements()};
  }
  const GridParameter& parameter = working_weights_->parameter(name);
  const IndexRange owned = parameter.Owned(*grid_);
  return {
      .tensor = parameter.tensor, .shape = parameter.tensor_shape, .block = parameter.block, .begin = owned.first, .count = owned.count};
}

Trainer::GridBytes Trainer::TotalGridBytes() const {
  GridBytes bytes{};
  for (std::size_t g = 0; grid_ != nullptr && g < bytes.size(); ++g) {
    if (const Communicator* along = grid_->along(static_cast<GridGroup>(g))) bytes[g] = along->counters().total().bytes;
  }
  return bytes;
}

void Trainer::BeginWeights() {
  for (const auto& [key, stage] : stages_) stage->WeightsChanged();
  if (working_weights_ == nullptr) return;
  working_weights_->GatherCopies(*stream_);
}

// On a grid, layers communicate in the middle of a call; reuse chooses what is computed from step to step.
bool Trainer::CanCapture() const {
  return options_.device == DeviceKind::kCuda && options_.cuda_graphs != CudaGraphs::kOff && grid_ranks() == 1 && !options_.reuse.layers.on;
}

GraphStage::Counts Trainer::graph_counts() const {
  GraphStage::Counts total;
  for (const auto& stage : graph_stages_) {
    total.plain += stage->counts().plain;
    total.captured += stage->counts().captured;
    total.replayed += stage->counts().replayed;
  }
  return total;
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
                       .gradient_scale = optimizer_->loss_scale() / static_cast<double>(loss_tokens_)};
  const GridBytes before = TotalGridBytes();
  const std::int64_t captured = graph_counts().captured;
  for (const auto& stage : graph_stages_) stage->Replay(graph_trial_->UseGraphs());
  const auto start = std::chrono::steady_clock::now();
  optimizer_->BeginStep(*stream_);
  states_->BeginStep(*stream_);
  if (reuse_ != nullptr) reuse_->BeginStep(*stream_);
  BeginWeights();
  const std::int64_t first_sample = replica_ * options_.micro_batches * options_.samples_per_micro_batch;
  LYCIA_RETURN_IF_ERROR(executor_->Run(training_, context, first_sample, options_.samples_per_micro_batch, *this));
  LYCIA_RETURN_IF_ERROR(MergeStates());
  if (reuse_ != nullptr) LYCIA_RETURN_IF_ERROR(reuse_->EndStep(*stream_, *world_));
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  if (reuse_ != nullptr) reuse_->Decide(loss(), decision().skipped);
  if (graph_trial_) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    graph_trial_->StepDone(seconds, graph_counts().captured > captured);
  }
  grid_bytes_ = TotalGridBytes();
  for (std::size_t g = 0; g < before.size(); ++g) grid_bytes_[g] -= before[g];
  return OkStatus();
}

// What the step has observed, into the states, unless its update was not made.
Status Trainer::MergeStates() {
  if (!decision().finite) return OkStatus();
  StageContext context{.stream = stream_.get(), .seed = options_.seed, .step = step_};
  for (const int stage : states_->stages()) {
    states_->Gather(*stream_, stage, *optimizer_->holders(stage),
                    [&](int group) { return grid_ == nullptr ? nullptr : grid_->along(static_cast<GridGroup>(group)); });
    const auto of_stage = std::ranges::find_if(stages_, [&](const auto& entry) { return entry.first.second == stage; });
    of_stage->second->MergeStates(context);
  }
  return OkStatus();
}

std::vector<Trainer::OwnState> Trainer::States() const {
  std::vector<OwnState> all;
  for (const int stage : states_->stages()) {
    const bool owner = optimizer_->holders(stage)->rank() == 0;
    for (const StateStore::Entry& entry : states_->entries(stage)) {
      OwnState own{.spec = &entry.spec,
                   .stored = {.tensor = entry.spec.name, .shape = entry.spec.shape, .block = {}, .count = entry.state.elements()},
                   .state = entry.state,
                   .owner = owner};
      if (const auto part = grid_states_.find(entry.spec.name); part != grid_states_.end()) {
        own.stored.shape = part->second.tensor_shape;
        own.stored.block = part->second.block;
        own.owner &= grid_->position(part->second.group) == 0;
      }
      all.push_back(std::move(own));
    }
  }
  return all;
}

StatusOr<Trainer::Evaluation> Trainer::Evaluate(const BatchSource& source, std::int64_t batches) {
  source_ = &source;
  training_now_ = false;
  BeginWeights();
  Evaluation total;
  for (std::int64_t batch = 0; batch < batches; ++batch) {
    first_source_sample_ = batch * samples_per_step();
    stream_->Zero(evaluated_.data, evaluated_.bytes());
    const std::int64_t first_sample = replica_ * options_.micro_batches * options_.samples_per_micro_batch;
    StageContext context{.stream = stream_.get(), .seed = options_.seed, .step = 0, .training = false};
    LYCIA_RETURN_IF_ERROR(executor_->Run(evaluation_, context, first_sample, options_.samples_per_micro_batch, *this));
    stream_->Wait(world_->AllReduce({.in = evaluated_, .out = evaluated_, .tag = Tag::kMetrics}, stream_->Record()));
    LYCIA_RETURN_IF_ERROR(host_->Read(evaluated_, [&](const Tensor& host) {
      const double* of_sample = host.as<double>();
      for (std::int64_t s = 0; s < samples_per_step(); ++s) {
        total.loss += of_sample[s];
        total.hits += of_sample[samples_per_step() + s];
      }
      return OkStatus();
    }));
  }
  return total;
}

void Trainer::LoadInputs(Stream& stream, const SampleRange& samples, void* to) {
  const SampleRange own = model_->OwnInputs(samples);
  void* const host = batches_.Next(stream);
  if (host == nullptr) return;
  source_->Load(training_now_ ? step_ : 0, first_source_sample_ + own.begin, own.count, host, nullptr);
  batches_.CopyTo(stream, to, InputOf(options_.model, own.count).bytes());
}

void Trainer::LoadLabels(Stream& stream, const SampleRange& samples, void* to) {
  const SampleRange own = model_->Own(samples);
  void* const host = batches_.Next(stream);
  if (host == nullptr) return;
  source_->Load(training_now_ ? step_ : 0, first_source_sample_ + own.begin, own.count, nullptr, static_cast<std::int32_t*>(host));
  batches_.CopyTo(stream, to, LabelsOf(options_.model, own.count).bytes());
}

void Trainer::SynchronizeGradients(Stream& stream, int sync_set) {
  if (working_weights_ != nullptr) working_weights_->ReducePartials(stream, sync_set);
  optimizer_->Synchronize(stream, sync_set);
}

void Trainer::UpdateSet(Stream& stream, int sync_set) { optimizer_->UpdateGroup(stream, sync_set, step_, learning_rate_); }

void Trainer::Update(Stream& stream) { optimizer_->Update(stream, step_, learning_rate_, stop_); }

double* Trainer::SampleLosses(const SampleRange& samples) {
  const std::int64_t first = model_->Own(samples).begin;
  if (!training_now_) return evaluated_.as<double>() + first;
  return optimizer_->sample_losses() == nullptr ? nullptr : optimizer_->sample_losses() + first;
}

double* Trainer::SampleHits(const SampleRange& samples) {
  if (training_now_ || evaluated_.data == nullptr) return nullptr;
  return evaluated_.as<double>() + samples_per_step() + model_->Own(samples).begin;
}

}  // namespace lycia
