// The rival of our all-reduce: MPI's own, on the ranks of MPI_COMM_WORLD.
#ifndef LYCIA_BENCH_MPI_SUM_H_
#define LYCIA_BENCH_MPI_SUM_H_

#include <cstdint>

#include "runtime/core/status.h"

namespace lycia {

// MPI is initialised and may be called from any thread.
bool HasMpiSum();
// out[i] = sum over ranks of in[i]; in place when both are the same memory. Blocks.
Status MpiSum(const float* in, float* out, std::int64_t elements);

}  // namespace lycia

#endif  // LYCIA_BENCH_MPI_SUM_H_
