#include "parallel/grid/working_weights.h"

#include <algorithm>

namespace lycia {
namespace {

// The first elements of a tensor, in another shape.
Tensor Front(const Tensor& of, const Shape& shape) {
  LYCIA_CHECK_LE(shape.elements(), of.elements());
  return {of.data, of.dtype, shape};
}

}  // namespace

std::int64_t StoredElements(const GridParameter& parameter, const Grid& grid) {
  const std::int64_t ranks = grid.size(parameter.group);
  return (parameter.block.elements() + ranks - 1) / ranks;
}

StatusOr<ParameterSpec> StoredSpec(const GridParameter& parameter, const Grid& grid) {
  ParameterSpec spec{.name = parameter.name,
                     .shape = {StoredElements(parameter, grid)},
                     .initial = parameter.initial,
                     .std = parameter.std,
                     .decay = parameter.decay,
                     .use = parameter.use,
                     .gradient = parameter.gradient};
  if (parameter.exchange != Exchange::kEachUse) {
    for (const Axis axis : AxesOf(parameter.group)) {
      LYCIA_ASSIGN_OR_RETURN(spec.gradient, Reduced(spec.gradient, axis, Spread::kFlat));
    }
  }
  return spec;
}

WorkingWeights::WorkingWeights(const Grid& grid, DType dtype, const std::vector<GridParameter>& parameters,
                               const std::function<int(const std::string& name)>& group_of, ArenaPlan& plan)
    : grid_(&grid), dtype_(dtype) {
  for (const GridParameter& parameter : parameters)
    entries_.try_emplace({parameter.name, parameter.use}, Entry{parameter, {}, {}, {}, {}, {}, {}});
  std::map<int, std::vector<GridParameter>> exchanged;
  std::string name;  // of the entry before
  for (auto& [key, entry] : entries_) {
    const GridParameter& parameter = entry.parameter;
    const bool hand_over = parameter.exchange == Exchange::kHandOver;
    if (hand_over || IsExchanged(parameter)) {
      const Shape block = {parameter.block.elements()};
      if (!hand_over && key.first != name) entry.copy_region = plan.Add("working copies", TensorSpec{dtype, block});
      entry.partial_region = plan.Add("partial gradients", TensorSpec{ArithmeticDType(dtype), block});
    }
    if (IsExchanged(parameter)) exchanged[group_of(parameter.name)].push_back(parameter);
    name = key.first;
  }
  std::int64_t staging_bytes = 0;
  for (const auto& [group, of_group] : exchanged) {
    exchanges_[group] = std::make_unique<StepExchange>(grid, dtype, of_group);
    staging_bytes = std::max(staging_bytes, exchanges_[group]->staging_bytes());
  }
  staging_ = plan.Add("working copies", staging_bytes);
}

bool WorkingWeights::IsExchanged(const GridParameter& parameter) const {
  return parameter.exchange != Exchange::kEachUse && parameter.exchange != Exchange::kHandOver && grid_->size(parameter.group) > 1;
}

WorkingWeights::Entry& WorkingWeights::FirstUse(const std::string& name) {
  const auto found = entries_.lower_bound({name, 0});
  LYCIA_CHECK(found != entries_.end() && found->first.first == name) << "no layer of this rank has parameter " << name << " ";
  return found->second;
}

const GridParameter& WorkingWeights::parameter(const std::string& name) const {
  return const_cast<WorkingWeights*>(this)->FirstUse(name).parameter;
}

void WorkingWeights::Bind(const Arena& arena, const StoreTensors& stored) {
  for (auto& [key, entry] : entries_) {
    const GridParameter& parameter = entry.parameter;
    const bool hand_over = parameter.exchange == Exchange::kHandOver;
    if (!hand_over) {
      const Shape owned = {parameter.Owned(*grid_).count};
      entry.stored = Front(stored.weight(key.first), owned);
      entry.stored_gradient = Front(stored.gradient(key.first, key.second), owned);
    }
    const TensorSpec block{dtype_, parameter.LayerSpec(*grid_).shape}, partial{ArithmeticDType(dtype_), block.shape};
    if (IsExchanged(parameter)) {
      entry.copy = arena.At(FirstUse(key.first).copy_region, block);
      entry.partial = arena.At(entry.partial_region, partial);
    } else if (hand_over) {
      entry.copy = {nullptr, dtype_, block.shape};
      entry.partial = arena.At(entry.partial_region, partial);
    } else {
      entry.copy = Front(entry.stored, block.shape);
      entry.partial = Front(entry.stored_gradient, block.shape);
    }
  }
  for (auto& [group, exchange] : exchanges_) {
    std::vector<StepExchange::Binding> bindings;
    for (const GridParameter& parameter : exchange->parameters()) {
      const Entry& entry = entries_.at({parameter.name, parameter.use});
      bindings.push_back({.owned = entry.stored, .owned_gradient = entry.stored_gradient, .copy = entry.copy, .partial = entry.partial});
    }
    exchange->Bind(arena.At(staging_), bindings);
  }
}

Tensor WorkingWeights::weight(const std::string& name) const { return const_cast<WorkingWeights*>(this)->FirstUse(name).copy; }

Tensor WorkingWeights::gradient(const std::string& name, int use) const { return entries_.at({name, use}).partial; }

void WorkingWeights::GatherCopies(Stream& stream) const {
  for (const auto& [group, exchange] : exchanges_) exchange->Gather(stream);
}

void WorkingWeights::ReducePartials(Stream& stream, int group) const {
  const auto found = exchanges_.find(group);
  if (found != exchanges_.end()) found->second->Reduce(stream);
}

}  // namespace lycia
