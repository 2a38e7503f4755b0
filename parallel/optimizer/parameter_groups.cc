#include "parallel/optimizer/parameter_groups.h"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr std::int64_t kAlignElements = 16;  // 64 bytes of f32

std::int64_t AlignUp(std::int64_t n) { return (n + kAlignElements - 1) / kAlignElements * kAlignElements; }

struct Use {
  ParameterSpec spec;
  std::set<int> stages;
};

}  // namespace

StatusOr<ParameterGroups> DeriveParameterGroups(const std::vector<std::vector<ParameterSpec>>& of_stage) {
  std::map<std::string, Use> uses;  // in order of names
  for (std::size_t stage = 0; stage < of_stage.size(); ++stage) {
    for (const ParameterSpec& spec : of_stage[stage]) {
      auto [entry, fresh] = uses.try_emplace(spec.name, Use{spec, {}});
      ParameterSpec same = spec;
      same.use = entry->second.spec.use;
      if (!fresh && !(same == entry->second.spec)) {
        return InvalidArgument("parameter ", spec.name, " is declared twice and differently: ", entry->second.spec.shape.ToString(),
                               " and ", spec.shape.ToString(), " (or other initial values or decay)");
      }
      entry->second.stages.insert(static_cast<int>(stage));
    }
  }
  std::map<std::vector<int>, ParameterGroup> groups;  // in order of stage lists
  for (std::size_t stage = 0; stage < of_stage.size(); ++stage) groups[{static_cast<int>(stage)}];
  ParameterGroups result;
  for (const auto& [name, use] : uses) {
    ParameterGroup& group = groups[std::vector<int>(use.stages.begin(), use.stages.end())];
    const std::int64_t elements = use.spec.shape.elements();
    group.parameters.push_back({use.spec, group.elements, elements, result.num_norm_blocks});
    group.elements += AlignUp(elements);
    result.num_norm_blocks += (elements + kNormBlock - 1) / kNormBlock;
    result.num_parameters += elements;
  }
  for (const bool shared : {false, true}) {
    for (auto& [stages, group] : groups) {
      if ((stages.size() > 1) != shared) continue;
      group.stages = stages;
      result.groups.push_back(std::move(group));
    }
  }
  return result;
}

std::vector<std::int64_t> ShardOffsets(const ParameterGroup& group, int ranks) {
  // The places where a cut may be, ascending.
  std::vector<std::int64_t> cuts;
  for (const PlacedParameter& p : group.parameters) {
    const std::int64_t step = p.spec.shard == ShardPolicy::kWholeTensor ? std::max<std::int64_t>(p.elements, 1) : kNormBlock;
    for (std::int64_t at = 0; at < p.elements; at += step) cuts.push_back(p.offset + at);
  }
  cuts.push_back(group.elements);
  std::vector<std::int64_t> offsets = {0};
  for (int rank = 1; rank < ranks; ++rank) {
    const std::int64_t ideal = group.elements * rank / ranks;
    auto above = std::lower_bound(cuts.begin(), cuts.end(), ideal);
    std::int64_t cut = *above;
    if (above != cuts.begin() && ideal - *(above - 1) < cut - ideal) cut = *(above - 1);
    offsets.push_back(std::max(cut, offsets.back()));
  }
  offsets.push_back(group.elements);
  return offsets;
}

std::vector<Segment> SegmentsOf(const ParameterGroup& group, std::int64_t begin, std::int64_t end) {
  std::vector<Segment> segments;
  for (const PlacedParameter& p : group.parameters) {
    const std::int64_t from = std::max<std::int64_t>(begin - p.offset, 0);
    const std::int64_t to = std::min(end - p.offset, p.elements);
    if (from < to) segments.push_back({&p, from, to});
  }
  return segments;
}

}  // namespace lycia
