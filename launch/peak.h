// The measured limit that a run's speed is compared with.
#ifndef LYCIA_LAUNCH_PEAK_H_
#define LYCIA_LAUNCH_PEAK_H_

#include "runtime/device/device.h"

namespace lycia {

// FLOP/s of one core in our own f32 GEMM of 384 x 384 x 384: the best of several runs, about 50 ms in all. NaN if it cannot be measured.
double MeasureGemmPeak(Stream& stream);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_PEAK_H_
