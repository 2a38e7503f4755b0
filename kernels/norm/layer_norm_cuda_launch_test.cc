#include "kernels/norm/layer_norm_cuda_launch.h"

#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

using ::testing::HasSubstr;

struct RowCase {
  NormProblem problem;
  RowLaunch expected;
};

TEST(RowLaunchChoice, KeepsTheRowInRegistersWithTheWidestLoads) {
  const RowCase kCases[] = {
      {{.rows = 8192, .cols = 512}, {4, 32, 4}},  // 512 = 4 loads of 4 by 32 threads
      {{.rows = 8192, .cols = 768}, {4, 64, 1}},  // two warps
      {{.rows = 8192, .cols = 4096}, {4, 256, 1}},
      {{.rows = 8192, .cols = 16384}, {4, 1024, 1}},
      {{.rows = 8192, .cols = 514}, {2, 128, 1}},                  // even only: loads of 8 bytes
      {{.rows = 8192, .cols = 127}, {1, 32, 4}},                   // odd: loads of 4 bytes
      {{.rows = 8192, .cols = 512, .alignment = 4}, {1, 128, 1}},  // rows begin anywhere
      {{.rows = 8192, .cols = 512, .alignment = 8}, {2, 64, 1}},
      {{.rows = 8192, .cols = 512, .element_bytes = 8}, {2, 64, 1}},  // f64
      {{.rows = 8192, .cols = 511, .element_bytes = 8, .alignment = 8}, {1, 128, 1}},
      {{.rows = 8192, .cols = 1024, .element_bytes = 2}, {8, 32, 4}},  // bf16
      {{.rows = 8192, .cols = 16384, .element_bytes = 2}, {8, 512, 1}},
      {{.rows = 8192, .cols = 12, .element_bytes = 2}, {4, 32, 4}},
      {{.rows = 264, .cols = 256}, {4, 32, 2}},  // four rows a block would use 66 of 132
      {{.rows = 100, .cols = 256}, {4, 32, 1}},
      {{.rows = 1, .cols = 1}, {1, 32, 1}},
  };
  for (const RowCase& c : kCases) {
    const StatusOr<RowLaunch> launch = ChooseRowLaunch(c.problem);
    ASSERT_TRUE(launch.ok()) << launch.status();
    EXPECT_EQ(*launch, c.expected) << c.problem.rows << " x " << c.problem.cols << ": " << launch->vector << " elements, "
                                   << launch->threads_per_row << " threads, " << launch->rows_per_block << " rows";
  }
}

TEST(RowLaunchChoice, GivesAReasonForEachRejection) {
  const NormProblem f32{.rows = 8192, .cols = 512};
  EXPECT_EQ(Reject(f32, RowLaunch{4, 32, 4}), nullptr);
  EXPECT_THAT(Reject(f32, RowLaunch{8, 32, 1}), HasSubstr("at most 16 bytes"));
  EXPECT_THAT(Reject({.rows = 8192, .cols = 512, .alignment = 8}, RowLaunch{4, 32, 1}), HasSubstr("not aligned to the load"));
  EXPECT_THAT(Reject({.rows = 8192, .cols = 510}, RowLaunch{4, 32, 1}), HasSubstr("not a multiple of the load"));
  EXPECT_THAT(Reject({.rows = 8192, .cols = 516}, RowLaunch{4, 32, 1}), HasSubstr("does not fit in the registers"));
  EXPECT_THAT(Reject(f32, RowLaunch{4, 64, 2}), HasSubstr("only rows of one warp"));
  EXPECT_THAT(Reject({.rows = 8192, .cols = 512, .element_bytes = 2}, RowLaunch{8, 1024, 1}), HasSubstr("too few registers"));
  EXPECT_THAT(Reject({.rows = 400, .cols = 512}, RowLaunch{4, 32, 4}), HasSubstr("leave some idle"));
}

// Every row length up to the limit: each column belongs to exactly one (load, thread), and vector loads stay aligned.
TEST(RowLaunchChoice, CoversEveryColumnOnce) {
  for (const int bytes : {2, 4, 8}) {
    for (std::int64_t cols = 1; cols <= kLoadsPerThread * MaxThreadsPerRow(1); ++cols) {
      const NormProblem problem{.rows = 3, .cols = cols, .element_bytes = bytes};
      const StatusOr<RowLaunch> launch = ChooseRowLaunch(problem);
      ASSERT_TRUE(launch.ok()) << cols << ": " << launch.status();
      ASSERT_GE(kLoadsPerThread * launch->threads_per_row * launch->vector, cols);
      ASSERT_EQ(cols % launch->vector, 0);
      ASSERT_LE(launch->threads_per_row * launch->rows_per_block, 1024);
      ASSERT_GE(launch->blocks(problem) * launch->rows_per_block, problem.rows);
    }
  }
}

TEST(RowLaunchChoice, RefusesARowThatIsTooLongWithTheNumbers) {
  const Status status = ChooseRowLaunch({.rows = 2, .cols = 16388}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("16388 columns of 4 bytes"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("16384 at best"));
  EXPECT_FALSE(ChooseRowLaunch({.rows = 2, .cols = 4097}).ok());
  EXPECT_FALSE(ChooseRowLaunch({.rows = 2, .cols = 16392, .element_bytes = 2}).ok());
  EXPECT_FALSE(ChooseRowLaunch({.rows = 2, .cols = 8194, .element_bytes = 8}).ok());
}

}  // namespace
}  // namespace lycia::cuda
