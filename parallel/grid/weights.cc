#include "parallel/grid/weights.h"

#include <algorithm>

namespace lycia {
namespace {

std::int64_t Padded(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

GridWeights::GridWeights(const Args& args, LayerPlan& plan)
    : grid_(args.grid), policy_(args.policy), dtype_(plan.compute()), gradient_bytes_(SizeOf(plan.statistics())) {
  LYCIA_CHECK(!args.weights.empty() && args.weights.size() <= kMost) << args.weights.size() << " weights ";
  bool gathers = false, reduces = false;
  for (const GridWeight& of : args.weights) {
    Weight weight{.of = of, .offsets = of.parameter.Offsets(*grid_)};
    weight.gathers = of.parameter.exchange == Exchange::kEachUse && grid_->size(of.parameter.group) > 1;
    weight.reduces = weight.gathers && !of.hand_over;
    if (weight.gathers) {
      weight.at = spec_.bytes;
      const std::int64_t elements = of.parameter.block.elements();
      spec_.bytes += Padded(elements * (weight.reduces ? std::max(SizeOf(dtype_), gradient_bytes_) : SizeOf(dtype_)));
      if (policy_.cache_weights) {
        weight.kept = plan.Keep({dtype_, {of.parameter.block.num_rows(), of.parameter.block.num_columns()}}, KeepUntil::kInput);
      }
    }
    gathers |= weight.gathers, reduces |= weight.reduces;
    weights_.push_back(std::move(weight));
  }
  spec_.forward = gathers;
  spec_.backward = gathers && args.backward && !policy_.cache_weights;
  spec_.into_kept = policy_.cache_weights;
  spec_.returns = reduces;
  spec_.overlap = policy_.overlap;
  if (gathers) transfer_ = plan.Transfer(spec_);
}

void GridWeights::Fetch(const LayerContext& context, TransferPlace& place) const {
  Stream& stream = context.stream();
  const Blocks whole = Whole(context, &place);
  // What the place was used for before must be over before the first of these starts, or the second would wait for the first.
  const Communicator* queue = nullptr;
  bool one_queue = true;
  for (const Weight& weight : weights_) {
    if (!weight.gathers) continue;
    one_queue &= queue == nullptr || queue == Along(weight);
    queue = Along(weight);
  }
  if (!policy_.cache_weights) one_queue ? place.AwaitOthers(stream, queue) : place.Await(stream);
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const Weight& weight = weights_[i];
    if (!weight.gathers) continue;
    Communicator* along = Along(weight);
    const Event event = StartGather(stream, along, context.parameter(weight.of.weight), whole[i], Tag::kWeight, weight.offsets);
    policy_.overlap ? place.Put(event, along) : AwaitAlways(stream, event);
  }
}

GridWeights::Blocks GridWeights::Whole(const LayerContext& context, const TransferPlace* place) const {
  Blocks whole;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const Weight& weight = weights_[i];
    if (!weight.gathers) {
      whole[i] = context.parameter(weight.of.weight);
    } else if (policy_.cache_weights) {
      whole[i] = {context.keep(weight.kept).data, dtype_, BlockSpec(weight).shape};
    } else {
      whole[i] = place->View(BlockSpec(weight), weight.at);
    }
  }
  return whole;
}

GridWeights::Blocks GridWeights::Gradients(const LayerContext& context, const TransferPlace* place) const {
  Blocks gradients;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const Weight& weight = weights_[i];
    gradients[i] = context.gradient(weight.of.gradient);
    if (!weight.reduces) continue;
    gradients[i] = place->View({gradients[i].dtype, BlockSpec(weight).shape}, weight.at);
    context.stream().Zero(gradients[i].data, gradients[i].bytes());  // not every block is covered once: shared key heads
  }
  return gradients;
}

void GridWeights::Send(const LayerContext& context, const Blocks& gradients, TransferPlace* place) const {
  Stream& stream = context.stream();
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const Weight& weight = weights_[i];
    if (!weight.reduces) continue;
    Communicator* along = Along(weight);
    const Event event = StartReduceScatter(stream, along, gradients[i], context.gradient(weight.of.gradient),
                                           {.tag = Tag::kGradient, .accumulate = true, .offsets = weight.offsets});
    policy_.overlap ? place->Put(event, along) : AwaitAlways(stream, event);
  }
}

}  // namespace lycia
