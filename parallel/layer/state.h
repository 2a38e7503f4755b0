// StateSpec: numbers of a layer that follow the data, not gradients, as the running statistics of a batch norm do.
//
// Forward of a training step observes one row of the state's shape for each `samples` consecutive samples of the global batch. Once a step,
// if its update is made, the rows of the whole global batch are brought together and Layer::MergeStates folds them into the state in the
// order of samples: the same bits on every rank that holds it, whatever micro-batches, pipes and replicas there are. Nothing is
// communicated in a forward or a backward.
#ifndef LYCIA_PARALLEL_LAYER_STATE_H_
#define LYCIA_PARALLEL_LAYER_STATE_H_

#include <cstdint>
#include <string>

#include "parallel/layer/parameter.h"
#include "runtime/core/tensor.h"

namespace lycia {

struct StateSpec {
  std::string name;  // global, as a parameter's
  Shape shape;
  Initial initial = Initial::kZero;  // or kOne
  std::int64_t samples = 1;          // of one observation; divides the micro-batch
  int along = -1;                    // on a tensor grid: the group of its ranks that observe other samples (GridGroup); -1: none

  bool operator==(const StateSpec&) const = default;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_LAYER_STATE_H_
