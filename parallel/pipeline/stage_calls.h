// StageCalls: which backwards a stage must be ready for, and what they compute again.
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_CALLS_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_CALLS_H_

#include <cstdint>

namespace lycia {

// What is kept between forward and backward, and what is computed again.
//   kNone    everything the layers keep
//   kLayers  the input of every layer; each layer's forward runs again just before its backward
//   kStage   the input of the stage; the whole forward runs again before the backward
// A split backward computes again before its input gradient, and keeps from there what the weight gradient reads.
enum class Recompute : std::uint8_t { kNone, kLayers, kStage };

struct StageCalls {
  Recompute recompute = Recompute::kNone;
  bool full_backward = true;    // Backward is called ...
  bool split_backward = false;  // ... and BackwardInput with BackwardWeight
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_CALLS_H_
