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
    std::int64_t states = 0, observations = 0;
    for (const StateSpec& spec : specs) {
      LYCIA_CHECK_EQ(samples % spec.samples, 0);
      const Shape rows = WithRows(samples / spec.samples, spec.shape);
      stage.entries.push_back({.spec = spec, .state = {nullptr, dtype, spec.shape}, .observations = {nullptr, dtype, rows}});
      states += spec.shape.elements();
      observations += rows.elements();
    }
    stage.state_region = plan.Add("states", TensorSpec{dtype, {states}});
    stage.observation_region = plan.Add("states", TensorSpec{dtype, {observations}});
    stage.observations = {nullptr, dtype, {observations}};
  }
}

void StateStore::Bind(const Arena& arena) {
  const auto place = [](char*& next, Tensor& tensor) {
    tensor.data = next;
    if (next != nullptr) next += tensor.bytes();
  };
  for (auto& [number, stage] : stages_) {
    auto* state = static_cast<char*>(arena.At(stage.state_region));
    auto* observations = static_cast<char*>(arena.At(stage.observation_region));
    stage.observations.data = observations;
    for (Entry& entry : stage.entries) {
      place(state, entry.state);
      place(observations, entry.observations);
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
  for (auto& [number, stage] : stages_) stream.Zero(stage.observations.data, stage.observations.bytes());
}

void StateStore::Gather(Stream& stream, int number, Communicator& holders) {
  if (holders.size() == 1) return;
  const Tensor& rows = stages_.at(number).observations;
  stream.Wait(holders.AllReduce({.in = rows, .out = rows, .tag = Tag::kMetrics}, stream.Record()));
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
