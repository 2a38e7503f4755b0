// StateStore: the states of the stages that one rank holds, and what a step has observed for them: one flat buffer for those of a stage
// that the same ranks observe.
#ifndef LYCIA_PARALLEL_PIPELINE_STATE_STORE_H_
#define LYCIA_PARALLEL_PIPELINE_STATE_STORE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "parallel/layer/state.h"
#include "runtime/comm/communicator.h"
#include "runtime/device/arena.h"
#include "runtime/device/device.h"

namespace lycia {

class StateStore {
 public:
  // of_stage: by stage; a stage of several pipes comes once. samples: of the global batch, which every spec's samples divide
  // (CheckStates). dtype: of states and observations, f32 or f64.
  StateStore(const std::map<int, std::vector<StateSpec>>& of_stage, std::int64_t samples, DType dtype, ArenaPlan& plan);
  void Bind(const Arena& arena);

  // Stages that have states, in order.
  const std::vector<int>& stages() const { return numbers_; }
  struct Entry {
    StateSpec spec;
    Tensor state;         // [shape]
    Tensor observations;  // [samples / spec.samples, shape]
  };
  const std::vector<Entry>& entries(int stage) const { return stages_.at(stage).entries; }
  const Entry& entry(const std::string& name) const;

  void Initialise(Stream& stream);
  // Before the first forward of a step: no row is observed yet.
  void BeginStep(Stream& stream);
  // After its last forward: the rows that others have observed join. Collective over the ranks that hold the stage and, on a tensor grid,
  // those of each StateSpec::along; nullptr: a group of one. Each row comes from one of them, and adding the others' zeros changes no bit
  // but the sign of a zero.
  using Along = absl::FunctionRef<Communicator*(int along)>;
  void Gather(Stream& stream, int stage, Communicator& holders, Along along);

 private:
  struct Observations {
    Region region;
    Tensor flat;  // of all entries with one StateSpec::along, in their order
  };
  struct Stage {
    Region state_region;
    std::vector<Entry> entries;
    std::map<int, Observations> observations;  // by StateSpec::along
  };
  std::map<int, Stage> stages_;
  std::vector<int> numbers_;
  DType dtype_;
};

// InvalidArgument where the samples of an observation do not divide the micro-batch.
Status CheckStates(const std::vector<StateSpec>& states, std::int64_t samples_per_micro_batch);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STATE_STORE_H_
