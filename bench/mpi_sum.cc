#include "bench/mpi_sum.h"

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX
#endif
#include <mpi.h>

namespace lycia {

bool HasMpiSum() {
  int initialised = 0, level = MPI_THREAD_SINGLE;
  MPI_Initialized(&initialised);
  if (!initialised) return false;
  MPI_Query_thread(&level);
  return level == MPI_THREAD_MULTIPLE;  // the communication thread calls MPI too
}

Status MpiSum(const float* in, float* out, std::int64_t elements) {
  const int code = MPI_Allreduce(in == out ? MPI_IN_PLACE : in, out, static_cast<int>(elements), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  return code == MPI_SUCCESS ? OkStatus() : absl::UnavailableError("MPI_Allreduce failed");
}

}  // namespace lycia
