#include "parallel/layer/transfer.h"

#include "parallel/layer/layer.h"

namespace lycia {

void AwaitAlways(Stream& stream, const Event& event) {
  if (stream.ok()) {
    stream.Wait(event);
  } else {
    event.Wait(stream.guard()).IgnoreError();  // the stream has its first failure already
  }
}

Tensor TransferPlace::View(const TensorSpec& spec, std::int64_t offset) const {
  return {memory_ == nullptr ? nullptr : memory_ + offset, spec.dtype, spec.shape};
}

void TransferPlace::Await(Stream& stream) { AwaitOthers(stream, nullptr); }

void TransferPlace::AwaitOthers(Stream& stream, const void* queue) {
  std::size_t left = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    if (queue != nullptr && under_way_[i].queue == queue) {
      under_way_[left++] = under_way_[i];
    } else {
      AwaitAlways(stream, under_way_[i].event);
    }
  }
  count_ = left;
}

void TransferPlace::Put(const Event& event, const void* queue) {
  LYCIA_CHECK_LT(count_, kMost);
  under_way_[count_++] = {event, queue};
}

void Transfers::Start(const Call& call) {
  call_ = call;
  next_ = started_ = 0;
  if (!call_.steps.empty() && call_.steps[0].early) StartStep(0);
}

TransferPlace& Transfers::Begin(const LayerContext& context, TransferHandle transfer) {
  const bool promised =
      next_ < call_.steps.size() && call_.steps[next_].layer == context.layer && call_.steps[next_].transfer == transfer.index;
  LYCIA_CHECK(promised) << "transfer " << transfer.index << " of layer " << context.layer << " begins as number " << next_
                        << " of the call: layers use their transfers in the order of their plan, backwards in the reverse, and a layer "
                           "around another passes Backward and Fetch on ";
  const std::size_t index = next_++;
  if (started_ == index) StartStep(index);
  if (next_ < call_.steps.size() && call_.steps[next_].early) StartStep(next_);
  TransferPlace& place = places_[index % 2];
  place.Await(context.stream());
  return place;
}

void Transfers::StartStep(std::size_t index) {
  const TransferStep& step = call_.steps[index];
  TransferPlace& place = places_[index % 2];
  place.memory_ = call_.memory == nullptr ? nullptr : call_.memory + step.offset;
  const std::size_t layer = static_cast<std::size_t>(step.layer);
  if (step.fetches) call_.layers[layer]->Fetch(call_.contexts[layer], {step.transfer}, place);
  started_ = index + 1;
}

void Transfers::End(Stream& stream) {
  LYCIA_CHECK_EQ(next_, call_.steps.size());
  for (TransferPlace& place : places_) place.Await(stream);
}

}  // namespace lycia
