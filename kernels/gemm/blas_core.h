// Which kernels the BLAS picks. OpenBLAS reads its choice from the environment while it is loaded, and its own choice is wrong on chips
// younger than itself: 0.3.21 takes SSE3 kernels on an Emerald Rapids Xeon, 33 GFLOP/s instead of 160. setenv in main is too late for
// that, so main calls EnsureBlasEnvironment first (before MPI_Init), which starts the program anew with the right variables.
#ifndef LYCIA_KERNELS_GEMM_BLAS_CORE_H_
#define LYCIA_KERNELS_GEMM_BLAS_CORE_H_

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

struct CpuFeatures {
  bool avx2 = false, fma = false;
  bool avx512 = false;  // F, CD, BW, DQ and VL: what OpenBLAS's SkylakeX kernels use
};

// Of this machine, by CPUID and what the operating system saves.
CpuFeatures ThisCpu();

// OpenBLAS's core name for these features: "SkylakeX", "Haswell", or "" (its own choice stands).
std::string_view BlasCoreFor(const CpuFeatures& features);

// `environment` as the program should be started anew, or empty when it is right already. Values that the user set stay; the guard
// variable LYCIA_BLAS_ENVIRONMENT=1 says that this was done. Strings are "NAME=value".
std::vector<std::string> BlasEnvironment(const std::vector<std::string>& environment, const CpuFeatures& features);

// Starts this program anew (execve of /proc/self/exe) if the environment needs it, and then does not return. `environment` is main's
// `environ`. OK: nothing to do. Internal: the start failed; the program may go on, but slower.
Status EnsureBlasEnvironment(char** argv, char** environment);

struct BlasDescription {
  std::string core;     // the core in use, "SkylakeX"
  std::string config;   // the library's own words: version and build options
  std::string advised;  // the core that this machine should use, or "" for no opinion
  int threads = 1;
};

// Of the loaded BLAS, for `lycia doctor`.
BlasDescription DescribeBlas();

}  // namespace lycia

#endif  // LYCIA_KERNELS_GEMM_BLAS_CORE_H_
