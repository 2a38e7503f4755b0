#include "parallel/pipeline/stage_layout.h"

#include <algorithm>

#include "runtime/device/arena.h"

namespace lycia {
namespace {

std::int64_t Padded(std::int64_t bytes) { return (bytes + ArenaPlan::kAlignment - 1) / ArenaPlan::kAlignment * ArenaPlan::kAlignment; }

const TensorSpec& SpecOf(const TensorSpec& spec) { return spec; }
const TensorSpec& SpecOf(const LayerPlan::Kept& kept) { return kept.spec; }
const TensorSpec& SpecOf(const LayerPlan::ScratchSpec& scratch) { return scratch.spec; }

template <typename List>
std::int64_t Packed(const List& list) {
  std::int64_t bytes = 0;
  for (const auto& entry : list) bytes += Padded(SpecOf(entry).bytes());
  return bytes;
}

// Takes tensors off the ends of the areas.
class Cutter {
 public:
  std::array<std::int64_t, kNumAreas> bytes{};

  Place Take(Area area, std::int64_t bytes_of_tensor) {
    std::int64_t& end = bytes[static_cast<std::size_t>(area)];
    const Place place{area, end};
    end += Padded(bytes_of_tensor);
    return place;
  }
  // A list one after the other, each in the area that `area_of` says.
  template <typename List, typename AreaOf>
  std::vector<Place> Take(const List& list, const AreaOf& area_of) {
    std::vector<Place> places;
    for (const auto& entry : list) places.push_back(Take(area_of(entry), SpecOf(entry).bytes()));
    return places;
  }
};

// A list one after the other from an offset of the transient memory, which other lists may use at other times.
template <typename List>
std::vector<Place> From(std::int64_t offset, const List& list) {
  std::vector<Place> places;
  for (const auto& entry : list) {
    places.push_back({Area::kTransient, offset});
    offset += Padded(SpecOf(entry).bytes());
  }
  return places;
}

}  // namespace

StageLayout LayOut(std::span<const LayerPlan> plans, std::span<const std::vector<TensorSpec>> edges, const TensorSpec& labels,
                   const StageLayout::Options& options) {
  const std::size_t num_layers = plans.size();
  const Recompute recompute = options.recompute;
  std::int64_t widest_edge = 0, widest_handoff = 0, widest_scratch = 0, widest_kept = 0;
  for (const std::vector<TensorSpec>& edge : edges) widest_edge = std::max(widest_edge, Packed(edge));
  for (const LayerPlan& plan : plans) {
    widest_handoff = std::max(widest_handoff, Packed(plan.handoffs()));
    widest_scratch = std::max(widest_scratch, Packed(plan.scratch()));
    widest_kept = std::max(widest_kept, Packed(plan.kept()));
  }
  const auto kept_in_slot = [&](KeepUntil until) {
    return options.split_backward && until == KeepUntil::kInput ? Area::kInput : Area::kStash;
  };
  const auto input_until = [&](std::size_t i) { return plans[i].keeps_input() ? plans[i].keeps_input_until() : KeepUntil::kInput; };
  const auto edge_at = [&](std::size_t i) { return From(static_cast<std::int64_t>(i % 2) * widest_edge, edges[i]); };
  const auto gradient_at = [&](std::size_t i) { return From(static_cast<std::int64_t>(2 + i % 2) * widest_edge, edges[i]); };

  StageLayout layout;
  Cutter cut;
  std::vector<std::vector<Place>> edge_places(num_layers + 1), kept_places(num_layers);
  for (std::size_t i = 0; i < num_layers; ++i) {
    // What Forward leaves in slots.
    const bool read_back = plans[i].keeps_input() || (i > 0 && plans[i - 1].keeps_output());
    const bool edge_in_slot = i == 0 || recompute == Recompute::kLayers || (recompute == Recompute::kNone && read_back);
    edge_places[i] = edge_in_slot ? cut.Take(edges[i], [&](const auto&) { return kept_in_slot(input_until(i)); }) : edge_at(i);
    if (i == 0 && labels.shape.rank() > 0) layout.full.labels = cut.Take(kept_in_slot(KeepUntil::kInput), labels.bytes());
    if (recompute == Recompute::kNone) {
      kept_places[i] = cut.Take(plans[i].kept(), [&](const LayerPlan::Kept& kept) { return kept_in_slot(kept.until); });
    }
  }
  layout.keeps_output = recompute == Recompute::kNone && plans.back().keeps_output();
  edge_places[num_layers] = layout.keeps_output ? cut.Take(edges[num_layers], [&](const auto&) { return kept_in_slot(KeepUntil::kInput); })
                                                : edge_at(num_layers);
  layout.split.labels = layout.full.labels;
  std::int64_t& transient = cut.bytes[static_cast<std::size_t>(Area::kTransient)];
  transient = 4 * widest_edge;
  const std::int64_t scratch_at = cut.Take(Area::kTransient, widest_scratch).offset;
  layout.transfers = SequenceTransfers(plans, options);
  layout.transfers_at = cut.Take(Area::kTransient, layout.transfers.bytes);
  const std::int64_t kept_at = cut.Take(Area::kTransient, recompute == Recompute::kLayers ? widest_kept : 0).offset;

  // The rest for one of the two ways to run the backward; the other may use the same transient memory.
  const auto complete = [&](bool split, StageLayout::Places& places) {
    Cutter own = cut;
    const auto recomputed = [&](KeepUntil until) { return split && until == KeepUntil::kWeight ? Area::kHandoff : Area::kTransient; };
    std::vector<std::vector<Place>> edge = edge_places;
    places.kept = kept_places;
    for (std::size_t i = 0; i < num_layers; ++i) {
      if (recompute == Recompute::kStage && i > 0) {
        edge[i] = own.Take(edges[i], [&](const auto&) { return recomputed(input_until(i)); });
      }
      if (recompute == Recompute::kStage) {
        places.kept[i] = own.Take(plans[i].kept(), [&](const LayerPlan::Kept& kept) { return recomputed(kept.until); });
      } else if (recompute == Recompute::kLayers) {
        places.kept[i] = From(kept_at, plans[i].kept());
        for (std::size_t k = 0; k < places.kept[i].size(); ++k) {
          const LayerPlan::Kept& kept = plans[i].kept()[k];
          if (recomputed(kept.until) == Area::kHandoff) places.kept[i][k] = own.Take(Area::kHandoff, kept.spec.bytes());
        }
      }
    }
    const std::int64_t handoff_at = own.Take(Area::kTransient, split || !options.full_backward ? 0 : widest_handoff).offset;
    for (std::size_t i = 0; i < num_layers; ++i) {
      places.in.push_back(edge[i]);
      places.out.push_back(edge[i + 1]);
      places.din.push_back(gradient_at(i));
      places.dout.push_back(gradient_at(i + 1));
      places.scratch.push_back(From(scratch_at, plans[i].scratch()));
      places.handoffs.push_back(split ? own.Take(plans[i].handoffs(), [](const auto&) { return Area::kHandoff; })
                                      : From(handoff_at, plans[i].handoffs()));
    }
    for (std::size_t area = 0; area < kNumAreas; ++area) layout.bytes[area] = std::max(layout.bytes[area], own.bytes[area]);
  };
  complete(/*split=*/false, layout.full);
  if (options.split_backward) complete(/*split=*/true, layout.split);
  return layout;
}

}  // namespace lycia
