// The measured limit that a run's speed is compared with.
#ifndef LYCIA_LAUNCH_PEAK_H_
#define LYCIA_LAUNCH_PEAK_H_

#include "runtime/core/dtype.h"
#include "runtime/device/device.h"

namespace lycia {

// FLOP/s of the stream's threads in our own GEMM of 384 x 384 x 384 in bf16 (f32 sums) or f32: the best of several runs, about 50 ms in
// all. NaN if it cannot be measured. For f64 that of f32.
double MeasureGemmPeak(Stream& stream, DType dtype);

// Bytes read and written a second by the stream's threads in a copy of 32 MiB, beyond the second-level caches: the best of several runs,
// about 50 ms in all. NaN if it cannot be measured.
double MeasureCopyRate(Stream& stream);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_PEAK_H_
