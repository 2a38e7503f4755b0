// What computation reuse decides by before layers have been timed: rates of this machine.
#ifndef LYCIA_LAUNCH_REUSE_RATES_H_
#define LYCIA_LAUNCH_REUSE_RATES_H_

#include <cstdint>

#include "launch/session.h"
#include "launch/trainer.h"

namespace lycia {

// Measured by rank 0, with its threads or (options.device = kCuda) on its GPU, told to all: into training's rates and patch_rates.
// Collective.
Status MeasureReuseRates(Session& session, const TrainerOptions& options, ReuseTraining& training);

// On a GPU the host cannot time a layer, so that what a layer would take is told from these alone: a product and that of distinct rows, a
// convolution and that of distinct patches, of random numbers, of which none repeat.
struct ProbeSizes {
  std::int64_t width = 4096;                                  // of square matrices, a multiple of what tensor cores ask for
  std::int64_t images = 32, image_width = 56, channels = 64;  // under as many filters of 3 x 3: a layer of ResNet-50
};
struct GpuRates {
  ReuseRates rows, patches;
};
StatusOr<GpuRates> MeasureGpuRates(Device& device, DType dtype, const ProbeSizes& sizes);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_REUSE_RATES_H_
