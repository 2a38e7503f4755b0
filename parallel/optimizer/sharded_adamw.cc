#include "parallel/optimizer/sharded_adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise/elementwise.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

// torch.nn.utils.clip_grad_norm_ divides by norm + 1e-6; so do we (docs/numerics.md).
constexpr double kClipEpsilon = 1e-6;

Tensor Slice(const Tensor& flat, std::int64_t begin, std::int64_t end) {
  void* data = flat.data == nullptr ? nullptr : static_cast<char*>(flat.data) + begin * SizeOf(flat.dtype);
  return {data, flat.dtype, {end - begin}};
}

}  // namespace

ShardedAdamW::ShardedAdamW(ParameterStore& store, const Args& args, ArenaPlan& plan)
    : store_(store), options_(args.options), samples_(args.samples), dtype_(args.dtype) {
  if (args.loss_scale) scaler_.emplace(*args.loss_scale);
  for (const int g : store.local_groups()) {
    const ParameterGroup& parameters = store.groups().groups[static_cast<std::size_t>(g)];
    Group group;
    group.member = args.members.at(g);
    group.offsets = ShardOffsets(parameters, group.member.size);
    const std::int64_t begin = group.offsets[static_cast<std::size_t>(group.member.rank)];
    const std::int64_t end = group.offsets[static_cast<std::size_t>(group.member.rank) + 1];
    group.segments = SegmentsOf(parameters, begin, end);
    updates_.reserve(std::max(updates_.capacity(), group.segments.size()));
    norms_.reserve(std::max(norms_.capacity(), group.segments.size()));
    const TensorSpec state{ArithmeticDType(dtype_), {end - begin}};
    group.m_region = plan.Add("optimizer states", state);
    group.v_region = plan.Add("optimizer states", state);
    if (has_masters()) group.master_region = plan.Add("optimizer states", state);
    groups_[g] = std::move(group);
  }
  decide_region_ = plan.Add("decide", TensorSpec{DType::kF64, {decide_elements()}});
  scalars_region_ = plan.Add("decide", static_cast<std::int64_t>(sizeof(StepScalars)));
}

Status ShardedAdamW::Bind(Device& device, const Arena& arena, Communicator* world, const std::map<int, Communicator*>& holders) {
  world_ = world;
  decide_ = arena.At(decide_region_, {DType::kF64, {decide_elements()}});
  scalars_ = static_cast<StepScalars*>(arena.At(scalars_region_));
  for (auto& [g, group] : groups_) {
    for (const PlacedParameter& parameter : store_.groups().groups[static_cast<std::size_t>(g)].parameters) {
      LYCIA_RETURN_IF_ERROR(MayUpdate(parameter.spec.gradient, parameter.spec.name));
    }
    group.communicator = holders.at(g);
    LYCIA_CHECK_EQ(group.communicator->size(), group.member.size);
    LYCIA_CHECK_EQ(group.communicator->rank(), group.member.rank);
    const auto own = static_cast<std::size_t>(group.member.rank);
    const TensorSpec spec{ArithmeticDType(dtype_), {group.offsets[own + 1] - group.offsets[own]}};
    group.m = arena.At(group.m_region, spec);
    group.v = arena.At(group.v_region, spec);
    if (has_masters()) group.master = arena.At(group.master_region, spec);
  }
  LYCIA_ASSIGN_OR_RETURN(host_buffer_, device.Allocate(static_cast<std::int64_t>(sizeof(HostSide)) + decide_.bytes(), MemoryKind::kPinned));
  host_ = static_cast<HostSide*>(host_buffer_.data());
  decided_ = reinterpret_cast<double*>(host_ + 1);
  return OkStatus();
}

ShardedAdamW::Shard ShardedAdamW::shard(int g) const {
  const Group& group = groups_.at(g);
  const auto own = static_cast<std::size_t>(group.member.rank);
  return {.begin = group.offsets[own],
          .end = group.offsets[own + 1],
          .weight = has_masters() ? group.master : OwnShard(store_.flat_weights(g), group),
          .m = group.m,
          .v = group.v};
}

Tensor ShardedAdamW::OwnShard(const Tensor& flat, const Group& group) const {
  const auto own = static_cast<std::size_t>(group.member.rank);
  return Slice(flat, group.offsets[own], group.offsets[own + 1]);
}

void ShardedAdamW::BeginStep(Stream& stream) {
  store_.ZeroGradients(stream);
  stream.Zero(decide_.data, decide_.bytes());
  for (auto& [g, group] : groups_) group.updated = false;
}

void ShardedAdamW::Synchronize(Stream& stream, int g) {
  Group& group = groups_.at(g);
  store_.AddUses(stream, g);
  const Tensor gradients = store_.flat_gradients(g);
  group.summed = group.communicator->ReduceScatter(
      {.in = gradients, .out = OwnShard(gradients, group), .offsets = group.offsets, .tag = Tag::kGradient}, stream.Record());
}

void ShardedAdamW::UpdateGroup(Stream& stream, int g, std::int64_t step, double learning_rate) {
  LYCIA_CHECK(options_.clip == 0) << "the clip factor is not known before all gradients are ";
  LYCIA_CHECK(!scaler_) << "an overflow is not known before all gradients are ";
  Group& group = groups_.at(g);
  SquareBlocks(stream, g, group);
  SetScalars(stream, step, learning_rate, /*clip=*/1);
  StepGroup(stream, g, group);
}

void ShardedAdamW::Update(Stream& stream, std::int64_t step, double learning_rate, bool stop) {
  Decide(stream, stop);
  if (!stream.ok()) return;
  if (decision_.finite) {
    SetScalars(stream, step, learning_rate,
               (options_.clip > 0 ? std::min(1.0, options_.clip / (decision_.gradient_norm + kClipEpsilon)) : 1.0) / decision_.loss_scale);
    for (auto& [g, group] : groups_) {
      if (!group.updated) StepGroup(stream, g, group);
    }
  }
  for (auto& [g, group] : groups_) {
    if (group.updated) stream.Wait(group.gathered);
  }
}

void ShardedAdamW::SquareBlocks(Stream& stream, int g, const Group& group) {
  stream.Wait(group.summed);
  const Tensor gradients = store_.flat_gradients(g);
  double* values = decide_.data == nullptr ? nullptr : decide_.as<double>();
  norms_.clear();
  for (const Segment& segment : group.segments) {
    const std::int64_t offset = segment.parameter->offset;
    const std::int64_t block = kNumFlags + samples_ + segment.parameter->first_block + segment.begin / kNormBlock;
    norms_.push_back({.x = Slice(gradients, offset + segment.begin, offset + segment.end),
                      .block_sums = values == nullptr ? nullptr : values + block});
  }
  SquaredNormBlocks(stream, norms_);
}

// Waits for every sum, takes the norm of the own shards and shares everything that ranks must agree on.
void ShardedAdamW::Decide(Stream& stream, bool stop) {
  for (const auto& [g, group] : groups_) {
    if (!group.updated) SquareBlocks(stream, g, group);
  }
  if (!stream.ok()) return;
  host_->stop = stop ? 1 : 0;
  stream.Copy(decide_.data, &host_->stop, sizeof(double));  // kStopFlag is entry 0
  stream.Wait(world_->AllReduce({.in = decide_, .out = decide_, .tag = Tag::kDecide}, stream.Record()));
  stream.Copy(decided_, decide_.data, decide_.bytes());
  stream.Fail(stream.Synchronize());
  if (!stream.ok()) return;

  decision_ = {};
  decision_.stop = decided_[kStopFlag] > 0;
  for (std::int64_t s = 0; s < samples_; ++s) decision_.loss_sum += decided_[kNumFlags + s];
  double squares = 0;
  for (std::int64_t b = 0; b < store_.groups().num_norm_blocks; ++b) squares += decided_[kNumFlags + samples_ + b];
  decision_.loss_scale = loss_scale();
  decision_.gradient_norm = std::sqrt(squares) / decision_.loss_scale;
  decision_.finite = std::isfinite(squares) && std::isfinite(decision_.loss_sum);
  if (scaler_) decision_.skipped = scaler_->Judge(decision_.finite) == LossScaler::Verdict::kSkip;
}

void ShardedAdamW::SetScalars(Stream& stream, std::int64_t step, double learning_rate, double clip) {
  const std::int64_t skipped = scaler_ ? scaler_->state().skipped_steps : 0;
  host_->scalars = MakeStepScalars(step + 1 - skipped, learning_rate, clip, options_.beta1, options_.beta2);
  stream.Copy(scalars_, &host_->scalars, sizeof(StepScalars));
}

void ShardedAdamW::StepGroup(Stream& stream, int g, Group& group) {
  const Tensor weights = store_.flat_weights(g), gradients = store_.flat_gradients(g);
  const std::int64_t shard_begin = group.offsets[static_cast<std::size_t>(group.member.rank)];
  updates_.clear();
  for (const Segment& segment : group.segments) {
    const std::int64_t begin = segment.parameter->offset + segment.begin, end = segment.parameter->offset + segment.end;
    const Tensor model_weight = Slice(weights, begin, end);
    updates_.push_back({.weight = has_masters() ? Slice(group.master, begin - shard_begin, end - shard_begin) : model_weight,
                        .model_weight = has_masters() ? model_weight : Tensor{},
                        .gradient = Slice(gradients, begin, end),
                        .m = Slice(group.m, begin - shard_begin, end - shard_begin),
                        .v = Slice(group.v, begin - shard_begin, end - shard_begin),
                        .beta1 = options_.beta1,
                        .beta2 = options_.beta2,
                        .eps = options_.eps,
                        .weight_decay = segment.parameter->spec.decay ? options_.weight_decay : 0.0,
                        .scalars = scalars_});
  }
  AdamW(stream, updates_);
  StartGather(stream, g, group, Tag::kWeight);
  group.updated = true;
}

void ShardedAdamW::StartGather(Stream& stream, int g, Group& group, Tag tag) {
  const Tensor weights = store_.flat_weights(g);
  group.gathered = group.communicator->AllGather({.in = OwnShard(weights, group), .out = weights, .offsets = group.offsets, .tag = tag},
                                                 stream.Record());
}

void ShardedAdamW::PublishWeights(Stream& stream) {
  for (auto& [g, group] : groups_) {
    if (has_masters()) Convert(stream, {.in = group.master, .out = OwnShard(store_.flat_weights(g), group)});
    StartGather(stream, g, group, Tag::kSetup);
  }
  for (const auto& [g, group] : groups_) stream.Wait(group.gathered);
}

}  // namespace lycia
