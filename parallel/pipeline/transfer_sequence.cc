#include "parallel/pipeline/transfer_sequence.h"

#include <algorithm>

#include "runtime/device/arena.h"

namespace lycia {
namespace {

constexpr std::int64_t kAlignment = ArenaPlan::kAlignment;

// Appends the steps of one call.
class Builder {
 public:
  Builder(std::span<const LayerPlan> plans, Recompute recompute, std::vector<TransferStep>& steps)
      : plans_(plans), recompute_(recompute), steps_(steps) {}

  void Forward(std::size_t layer) {
    const std::vector<TransferSpec>& transfers = plans_[layer].transfers();
    bool first = true;
    for (std::size_t t = 0; t < transfers.size(); ++t) {
      const TransferSpec& spec = transfers[t];
      if (!spec.forward) continue;
      // Layers that compute their forwards again share the memory of kept tensors: before a layer's own forward it is another's.
      const bool shared = spec.into_kept && recompute_ == Recompute::kLayers;
      steps_.push_back({.layer = static_cast<int>(layer),
                        .transfer = static_cast<int>(t),
                        .fetches = true,
                        .early = spec.overlap && !(shared && first),
                        .bytes = spec.into_kept ? 0 : spec.bytes});
      first = false;
    }
  }
  void Backward(std::size_t layer, bool input, bool weight) {
    const std::vector<TransferSpec>& transfers = plans_[layer].transfers();
    for (std::size_t t = transfers.size(); t-- > 0;) {
      const TransferSpec& spec = transfers[t];
      const bool fetches = input && spec.backward, returns = weight && spec.returns;
      if (!fetches && !returns) continue;
      steps_.push_back({.layer = static_cast<int>(layer),
                        .transfer = static_cast<int>(t),
                        .fetches = fetches,
                        .returns = returns,
                        .early = spec.overlap,
                        .bytes = spec.bytes});
    }
  }

 private:
  std::span<const LayerPlan> plans_;
  Recompute recompute_;
  std::vector<TransferStep>& steps_;
};

bool Overlaps(std::span<const LayerPlan> plans, const TransferStep& step) {
  return plans[static_cast<std::size_t>(step.layer)].transfers()[static_cast<std::size_t>(step.transfer)].overlap;
}

std::int64_t Padded(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// What one order needs: two neighbours, where the later may come early or what the earlier sends may leave late.
std::int64_t BytesOf(std::span<const LayerPlan> plans, const std::vector<TransferStep>& steps) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool both = i > 0 && (Overlaps(plans, steps[i]) || Overlaps(plans, steps[i - 1]));
    bytes = std::max(bytes, Padded(steps[i].bytes) + (both ? Padded(steps[i - 1].bytes) : 0));
  }
  return bytes;
}

}  // namespace

TransferSequence SequenceTransfers(std::span<const LayerPlan> plans, const StageCalls& calls) {
  TransferSequence sequence;
  const auto forward = [&](std::vector<TransferStep>& steps) {
    for (std::size_t i = 0; i < plans.size(); ++i) Builder(plans, calls.recompute, steps).Forward(i);
  };
  const auto backward = [&](std::vector<TransferStep>& steps, bool weight) {
    if (calls.recompute == Recompute::kStage) forward(steps);
    for (std::size_t i = plans.size(); i-- > 0;) {
      if (calls.recompute == Recompute::kLayers) Builder(plans, calls.recompute, steps).Forward(i);
      Builder(plans, calls.recompute, steps).Backward(i, /*input=*/true, weight);
    }
  };
  forward(sequence.forward);
  if (calls.full_backward) backward(sequence.backward, /*weight=*/true);
  if (calls.split_backward) {
    backward(sequence.backward_input, /*weight=*/false);
    for (std::size_t i = plans.size(); i-- > 0;) {
      Builder(plans, calls.recompute, sequence.backward_weight).Backward(i, /*input=*/false, /*weight=*/true);
    }
  }
  std::vector<TransferStep>* const orders[] = {&sequence.forward, &sequence.backward, &sequence.backward_input, &sequence.backward_weight};
  for (const std::vector<TransferStep>* steps : orders) sequence.bytes = std::max(sequence.bytes, BytesOf(plans, *steps));
  for (std::vector<TransferStep>* steps : orders) {
    for (std::size_t i = 1; i < steps->size(); i += 2) (*steps)[i].offset = sequence.bytes - Padded((*steps)[i].bytes);
  }
  return sequence;
}

}  // namespace lycia
