#include "parallel/pipeline/state_store.h"

#include "kernels/elementwise/elementwise.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

Shape WithRows(std::int64_t rows, const Shape& of_row) {
  Shape shape{rows};
  for (int i = 0; i < of_row.rank(); ++i) shape.push_back(of_row.dim(i));
  return shape;
}

}  // namespace

StateStore::StateStore(const std::map<int, std::vector<StateSpec>>& of_stage, std::int64_t samples, DType dtype, ArenaPlan& plan)
    : dtype_(dtype) {
  for (const auto& [number, specs] : of_stage) {
    if (specs.empty()) continue;
    Stage& stage = stages_[number];
    numbers_.push_back(number);
    std::int64_t states = 0;
    std::map<int, std::int64_t> observations;
    for (const StateSpec& spec : specs) {
      LYCIA_CHECK_EQ(samples % spec.samples, 0);
      const Shape rows = WithRows(samples / spec.samples, spec.shape);
      stage.entries.push_back({.spec = spec, .state = {nullptr, dtype, spec.shape}, .observations = {nullptr, dtype, rows}});
      states += spec.shape.elements();
      observations[spec.along] += rows.elements();
    }
    stage.state_region = plan.Add("states", TensorSpec{dtype, {states}});
    for (const auto& [along, elements] : observations) {
      stage.observations[along] = {plan.Add("states", TensorSpec{dtype, {elements}}), {nullptr, dtype, {elements}}};
    }
  }
}

void StateStore::Bind(const Arena& arena) {
  const auto place = [](char*& next, Tensor& tensor) {
    tensor.data = next;
    if (next != nullptr) next += tensor.bytes();
  };
  for (auto& [number, stage] : stages_) {
    auto* state = static_cast<char*>(arena.At(stage.state_region));
    std::map<int, char*> observations;
    for (auto& [along, of_group] : stage.observations) {
      of_group.flat.data = arena.At(of_group.region);
      observations[along] = static_cast<char*>(of_group.flat.data);
    }
    for (Entry& entry : stage.entries) {
      place(state, entry.state);
      place(observations[entry.spec.along], entry.observations);
    }
  }
}

const StateStore::Entry& StateStore::entry(const std::string& name) const {
  for (const auto& [number, stage] : stages_) {
    for (const Entry& entry : stage.entries) {
      if (entry.spec.name == name) return entry;
    }
  }
  LYCIA_CHECK(false) << "no stage of this rank has the state " << name << " ";
  __builtin_unreachable();
}

void StateStore::Initialise(Stream& stream) {
  for (auto& [number, stage] : stages_) {
    for (const Entry& entry : stage.entries) {
      Fill(stream, {.out = entry.state, .value = entry.spec.initial == Initial::kOne ? 1.0 : 0.0});
    }
  }
}

void StateStore::BeginStep(Stream& stream) {
  for (auto& [number, stage] : stages_) {
    for (auto& [along, of_group] : stage.observations) stream.Zero(of_group.flat.data, of_group.flat.bytes());
  }
}

void StateStore::Gather(Stream& stream, int number, Communicator& holders, Along along) {
  for (const auto& [group, of_group] : stages_.at(number).observations) {
    const Tensor& rows = of_group.flat;
    for (Communicator* const others : {&holders, group < 0 ? nullptr : along(group)}) {
      if (others == nullptr || others->size() == 1) continue;
      stream.Wait(others->AllReduce({.in = rows, .out = rows, .tag = Tag::kMetrics}, stream.Record()));
    }
  }
}

Status CheckStates(const std::vector<StateSpec>& states, std::int64_t samples_per_micro_batch) {
  for (const StateSpec& spec : states) {
    if (samples_per_micro_batch % spec.samples == 0) continue;
    return InvalidArgument(spec.name, " takes its statistics over ", spec.samples, " samples (model.norm_samples), which do not divide ",
                           samples_per_micro_batch, " samples of a micro-batch (train.micro_batch); make one a divisor of the other");
  }
  return OkStatus();
}

}  // namespace lycia
