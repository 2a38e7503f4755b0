// What a step has shown of layers that reuse computation: measured by the kernels of each rank, reduced to one view of all ranks.
#ifndef LYCIA_PARALLEL_REUSE_OBSERVATION_H_
#define LYCIA_PARALLEL_REUSE_OBSERVATION_H_

#include <cstdint>
#include <span>
#include <vector>

namespace lycia::reuse {

// Of one layer. Of layers that several ranks compute parts of, the worst part counts.
struct LayerObservation {
  bool measured = false;  // rows were hashed in this step
  double kept = 1;        // r = U / M, clusters of rows
  double error = 0;       // |X - C| / |X|, what the rows' clusters have lost
  bool probed = false;    // the layer has computed its weight gradient both ways
  double cosine = 1;      // between the two
};

struct Observation {
  double loss = 0;  // mean of the step
  std::vector<LayerObservation> layers;
};

// An observation as numbers whose element-wise maximum over ranks is the observation of all of them: the largest kept and error, the
// smallest cosine; what is not finite is the worst there is. A rank without a layer (another stage's) leaves that layer unmeasured, and is
// not asked.
std::int64_t PackedSize(std::int64_t layers);
void PackForMaximum(const Observation& observation, std::span<double> packed);  // packed [PackedSize] =
void UnpackMaximum(std::span<const double> packed, Observation& observation);   // observation.layers keeps its size

}  // namespace lycia::reuse

#endif  // LYCIA_PARALLEL_REUSE_OBSERVATION_H_
