// gpu_check: the device conformance suite and the kernel tests on every device present, then, if they passed, the bandwidth table.
// Exit code 1 if a test failed. Without a GPU the CUDA cases are skipped with the reason. GoogleTest's flags are understood.
#include <cstdio>

#include "gtest/gtest.h"
#include "tests/gpu/bench_cuda.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const int failed = RUN_ALL_TESTS(); failed != 0) return 1;
  if (testing::GTEST_FLAG(list_tests)) return 0;
  const lycia::Status status = lycia::BenchCudaKernels();
  if (!status.ok()) std::printf("not timed: %s\n", std::string(status.message()).c_str());
  return 0;
}
