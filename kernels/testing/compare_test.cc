#include "kernels/testing/compare.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"
#include "kernels/testing/test_tensor.h"

namespace lycia::testing {
namespace {

using ::testing::HasSubstr;

TEST(AllNear, NamesTheWorstElement) {
  const auto result = AllNear({1, 2, 3, 4.5, 5, 6.1}, {1, 2, 3, 4, 5, 6}, {.absolute = 0.01}, {2, 3});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.message(), HasSubstr("2 of 6 elements differ; worst at [1, 0]: actual 4.5, expected 4, difference 0.5, allowed 0.01"));
}

TEST(AllNear, AllowsWhatTheToleranceSays) {
  EXPECT_TRUE(AllNear({100.5, 0.5}, {100, 0}, {.of_largest = 0.005}));
  EXPECT_FALSE(AllNear({100.6, 0.0}, {100, 0}, {.of_largest = 0.005}));
  EXPECT_FALSE(AllNear({100.5, 0.5}, {100, 0}, {.relative = 0.01}));
}

TEST(AllNear, NotANumberIsNeverNear) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(AllNear({nan}, {1}, {.absolute = 1e9}));
  EXPECT_FALSE(AllNear({1}, {nan}, {.absolute = 1e9}));
  EXPECT_FALSE(AllNear({infinity}, {1}, {.absolute = 1e9}));
  EXPECT_FALSE(AllNear({infinity}, {-infinity}, {.absolute = 1e9}));
  EXPECT_TRUE(AllNear({infinity}, {infinity}, {}));
  EXPECT_FALSE(AllNear({1, 2}, {1}, {}));
}

TEST(TestTensor, ReportsAWriteOutside) {
  EXPECT_NONFATAL_FAILURE(
      {
        TestTensor tensor(DType::kF32, {3});
        tensor.as<float>()[3] = 0;
      },
      "wrote 0 bytes after f32[3]");
}

}  // namespace
}  // namespace lycia::testing
