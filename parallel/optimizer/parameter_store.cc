#include "parallel/optimizer/parameter_store.h"

#include <algorithm>
#include <utility>

#include "kernels/elementwise/elementwise.h"

namespace lycia {

ParameterStore::ParameterStore(const ParameterGroups& groups, std::vector<int> local_groups, const std::vector<ParameterSpec>& local_uses,
                               DType dtype, bool gradients, ArenaPlan& plan)
    : groups_(&groups), local_groups_(std::move(local_groups)), dtype_(dtype), gradients_(gradients) {
  for (const int g : local_groups_) {
    const ParameterGroup& group = groups.groups[static_cast<std::size_t>(g)];
    Flat flat;
    flat.weight_region = plan.Add("weights", group.elements * SizeOf(dtype));
    if (gradients) flat.gradient_region = plan.Add("gradients", group.elements * SizeOf(gradient_dtype()));
    flat_[g] = flat;
    for (const PlacedParameter& p : group.parameters) locations_[p.spec.name] = {g, &p, -1};
  }
  for (const ParameterSpec& spec : local_uses) {
    auto found = locations_.find(spec.name);
    LYCIA_CHECK(found != locations_.end()) << "parameter " << spec.name << " belongs to no group of this rank ";
    found->second.last_use = std::max(found->second.last_use, spec.use);
  }
  for (const ParameterSpec& spec : local_uses) {
    const Location& location = locations_.at(spec.name);
    if (!gradients || spec.use == location.last_use || earlier_.contains({spec.name, spec.use})) continue;
    const Region region = plan.Add("gradients", location.parameter->elements * SizeOf(gradient_dtype()));
    earlier_[{spec.name, spec.use}] = {location.group, region, {}, location.parameter};
  }
}

void ParameterStore::Bind(const Arena& arena) {
  for (auto& [g, flat] : flat_) {
    const Shape shape = {groups_->groups[static_cast<std::size_t>(g)].elements};
    flat.weights = arena.At(flat.weight_region, TensorSpec{dtype_, shape});
    if (gradients_) flat.gradients = arena.At(flat.gradient_region, TensorSpec{gradient_dtype(), shape});
  }
  for (auto& [key, use] : earlier_) {
    use.gradient = arena.At(use.region, {gradient_dtype(), use.parameter->spec.shape});
    sums_[key] = {.group = use.group, .gradient = use.gradient};
  }
  for (const auto& [name, location] : locations_) {
    if (!gradients_) break;
    sums_[{name, location.last_use}] = {.group = location.group,
                                        .gradient = Slice(flat_.at(location.group).gradients, *location.parameter)};
  }
}

bool* ParameterStore::fresh(const std::string& name, int use) {
  Sum& sum = sums_.at({name, use});
  sum.marked = true;
  return &sum.fresh;
}

Tensor ParameterStore::Slice(const Tensor& flat, const PlacedParameter& parameter) {
  void* data = flat.data == nullptr ? nullptr : static_cast<char*>(flat.data) + parameter.offset * SizeOf(flat.dtype);
  return {data, flat.dtype, parameter.spec.shape};
}

Tensor ParameterStore::weight(const std::string& name) const {
  const Location& location = locations_.at(name);
  return Slice(flat_.at(location.group).weights, *location.parameter);
}

Tensor ParameterStore::gradient(const std::string& name, int use) const {
  if (!gradients_) return {};
  const Location& location = locations_.at(name);
  if (location.last_use == use) return Slice(flat_.at(location.group).gradients, *location.parameter);
  return earlier_.at({name, use}).gradient;
}

void ParameterStore::ZeroGradients(Stream& stream) {
  for (auto& [key, sum] : sums_) {
    const bool zero = std::exchange(sum.zero, false);  // of this step: it is about to be added to
    sum.fresh = sum.marked && !zero;
    if (!sum.marked && !zero) stream.Zero(sum.gradient.data, sum.gradient.bytes());
  }
}

void ParameterStore::AddUses(Stream& stream, int group) {
  for (auto& [key, sum] : sums_) {
    if (!sum.fresh || sum.group != group) continue;
    stream.Zero(sum.gradient.data, sum.gradient.bytes());
    sum.fresh = false;
  }
  for (const auto& [key, use] : earlier_) {
    if (use.group != group) continue;
    const Tensor whole = Slice(flat_.at(group).gradients, *use.parameter);
    Dispatch(
        stream,
        [&] {
          cpu::AddAndClear(stream, {.x = whole, .y = use.gradient});
          sums_.at(key).zero = true;
        },
        [&] { cuda::AddInPlace(stream, {.x = whole, .y = use.gradient}); });
  }
}

}  // namespace lycia
