// Computation reuse as layers and trainer see it: a layer says where rows may repeat (ReuseSpec), the trainer says, step by step, what to
// do about them (ReuseSlot) and learns what was found (ReuseMeasures). docs/computation_reuse.md.
#ifndef LYCIA_PARALLEL_LAYER_REUSE_H_
#define LYCIA_PARALLEL_LAYER_REUSE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/measures.h"

namespace lycia {

// What a model is planned for. Off, no layer declares anything, and a run is the same to the bit as one of a program without reuse.
struct ReuseOptions {
  bool on = false;
  ReusePolicy policy = ReusePolicy::kExact;
  std::vector<std::string> layers;  // names of layers or their beginnings; empty: all that can

  bool AppliesTo(const std::string& layer) const {
    return on &&
           (layers.empty() || std::ranges::any_of(layers, [&](const std::string& beginning) { return layer.starts_with(beginning); }));
  }
  bool operator==(const ReuseOptions&) const = default;
};

// One place where rows may repeat, with what reuse would save and cost there in a training step's forward and backward of a micro-batch.
struct ReuseSpec {
  std::string name;        // of the layer
  std::int64_t rows = 0;   // M of a micro-batch
  std::int64_t depth = 0;  // K of a row
  double flops = 0;        // of the dense products whose rows, or depth, a partition makes fewer
  double bytes = 0;        // that reuse reads and writes beside them: hashing, gathering, segment sums, scattering
  bool patches = false;    // of a convolution
  bool operator==(const ReuseSpec&) const = default;
};

//   kDense    as if there were no reuse
//   kMeasure  dense, but repeated rows are counted
//   kReuse    one row a cluster is computed
enum class ReuseUse : std::uint8_t { kDense, kMeasure, kReuse };

// What a step does about one ReuseSpec; the same on all ranks and for all micro-batches of the step.
struct ReuseSlot {
  ReuseUse use = ReuseUse::kDense;
  bool probe = false;                 // compare the weight's gradient with the dense one
  ReuseRule rule;                     // projections and shifts in place
  ReuseMeasures* measures = nullptr;  // on the device; null where the device has no data, or nothing is to be counted
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_LAYER_REUSE_H_
