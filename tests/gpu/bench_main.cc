// gpu_bench: the tables of the CUDA kernels alone, without the tests (tests/gpu/build.sh's program has both). Exit code 2, saying why,
// without a GPU.
#include <cstdio>
#include <string>

#include "tests/gpu/bench_cuda.h"

int main() {
  const lycia::Status status = lycia::BenchCudaKernels();
  if (status.ok()) return 0;
  std::printf("not timed: %s\n", std::string(status.message()).c_str());
  return 2;
}
