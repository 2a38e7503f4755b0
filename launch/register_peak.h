// The most that this processor can multiply and add: what benches compare kernels and steps with.
#ifndef LYCIA_LAUNCH_REGISTER_PEAK_H_
#define LYCIA_LAUNCH_REGISTER_PEAK_H_

#include "kernels/gemm/gemm_kernels.h"
#include "runtime/device/thread_pool.h"

namespace lycia {

// GFLOP/s of all threads of the pool at once in the kernel's loop on registers: the best of five, as a peak is. About 0.1 s. cpu_clock: by
// the processor time of this process, which other programs do not shorten; of one thread.
double RegisterPeakGflops(const cpu::MicroKernel& kernel, ThreadPool& pool, bool cpu_clock = false);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_REGISTER_PEAK_H_
