// Optimizer: from gradients on every holder to one new weight on all of them.
//
// A step is BeginStep; forward and backward passes; Synchronize(group) for every local group, in the order of the schedule; Update. The
// last carries the one Decide collective of the step: gradient norm, loss, non-finite and stop flags reach every rank together, so that all
// ranks make the same decision. Where nothing has to be decided first, UpdateGroup steps a group ahead of it.
#ifndef LYCIA_PARALLEL_OPTIMIZER_OPTIMIZER_H_
#define LYCIA_PARALLEL_OPTIMIZER_OPTIMIZER_H_

#include <cstdint>

#include "runtime/device/device.h"

namespace lycia {

// What all ranks learn at the end of a step.
struct Decision {
  double loss_sum = 0;       // of all loss tokens of the global batch, added sample by sample
  double gradient_norm = 0;  // before clipping, each parameter counted once; of the loss itself, whatever its scale
  bool finite = true;        // false: nothing was updated, but for the groups that were updated ahead: their weights are lost
  bool skipped = false;      // not finite for the loss scale alone, as far as one can tell: it was halved, and the run may go on
  double loss_scale = 1;     // that the step was made with
  bool stop = false;         // some rank was asked to stop
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual void BeginStep(Stream& stream) = 0;
  // [samples of the global batch] f64: each last stage writes the losses of its samples here before Update.
  virtual double* sample_losses() = 0;
  // Starts the sum of a group's gradients over its ranks; a rendezvous. Enqueued: compute may go on.
  virtual void Synchronize(Stream& stream, int group) = 0;
  // Waits for the group's sum, updates the own shard and starts to gather the weights, which nobody may use before Update has returned.
  // Not with clipping, whose factor is decided last. step counts from 0.
  virtual void UpdateGroup(Stream& stream, int group, std::int64_t step, double learning_rate) = 0;
  // stop: this rank was asked to stop. Waits for all sums, decides, updates the shards of all groups that were not, and gathers the
  // weights.
  virtual void Update(Stream& stream, std::int64_t step, double learning_rate, bool stop) = 0;
  // Of the last Update.
  virtual const Decision& decision() const = 0;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_OPTIMIZER_OPTIMIZER_H_
