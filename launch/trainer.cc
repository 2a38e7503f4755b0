#include "launch/trainer.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {

Trainer::~Trainer() {
  if (clock_ != nullptr) clock_->Stop();
}

StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const TrainerOptions& options, Communicator& world) {
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
    trainer->InitialiseWeights();
    LYCIA_RETURN_IF_ERROR(trainer->PublishWeights());
  }
  return trainer;
}

Status Trainer::PublishWeights() {
  optimizer_->PublishWeights(*stream_);
  return stream_->Synchronize();
}

// Each owner its shard, by the tensor's own indices, so that the values are the same on all layouts.
void Trainer::InitialiseWeights() {
  for (const OwnPart& part : OwnParts()) {
    FillInitial(*stream_, {.block = part.stored.block.rows.empty() ? WholeTensor(part.stored.count) : part.stored.block,
                           .begin = part.stored.begin + part.begin,
                           .end = part.stored.begin + part.end,
                           .tensor = part.stored.tensor,
                           .initial = part.spec->initial,
                           .std = part.spec->std,
                           .seed = options_.seed,
                           .out = part.weight});
  }
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
  const GridBytes before = TotalGridBytes();
  optimizer_->BeginStep(*stream_);
  BeginWeights();
  const std::int64_t first_sample = replica_ * options_.micro_batches * options_.samples_per_micro_batch;
  LYCIA_RETURN_IF_ERROR(executor_->Run(training_, context, first_sample, options_.samples_per_micro_batch, *this));
  LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
  grid_bytes_ = TotalGridBytes();
  for (std::size_t g = 0; g < before.size(); ++g) grid_bytes_[g] -= before[g];
  return OkStatus();
}

StatusOr<double> Trainer::Evaluate(const BatchSource& source, std::int64_t batches) {
  source_ = &source;
  training_now_ = false;
  BeginWeights();
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
  const SampleRange own = model_->Own(samples);
  source_->Load(training_now_ ? step_ : 0, first_source_sample_ + own.begin, own.count, staging_.as<std::int32_t>(), nullptr);
  stream.Copy(to, staging_.data, own.count * options_.model.context * SizeOf(DType::kI32));
}

void Trainer::LoadLabels(Stream& stream, const SampleRange& samples, void* to) {
  const SampleRange own = model_->Own(samples);
  source_->Load(training_now_ ? step_ : 0, first_source_sample_ + own.begin, own.count, nullptr, staging_.as<std::int32_t>());
  stream.Copy(to, staging_.data, own.count * options_.model.context * SizeOf(DType::kI32));
}

void Trainer::SynchronizeGradients(Stream& stream, int sync_set) {
  if (working_weights_ != nullptr) working_weights_->ReducePartials(stream, sync_set);
  optimizer_->Synchronize(stream, sync_set);
}

void Trainer::UpdateSet(Stream& stream, int sync_set) { optimizer_->UpdateGroup(stream, sync_set, step_, learning_rate_); }

void Trainer::Update(Stream& stream) { optimizer_->Update(stream, step_, learning_rate_, stop_); }

double* Trainer::SampleLosses(const SampleRange& samples) {
  const std::int64_t first = model_->Own(samples).begin;
  if (!training_now_) return evaluation_losses_.as<double>() + first;
  return optimizer_->sample_losses() == nullptr ? nullptr : optimizer_->sample_losses() + first;
}

}  // namespace lycia
