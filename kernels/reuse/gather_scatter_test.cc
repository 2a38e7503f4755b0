// Gathering, means, sums and scattering over a partition, against their definitions in f64.
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/scatter.h"
#include "kernels/reuse/testing/reuse_case.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::ForEveryIsa;
using testing::kStoredDTypes;
using testing::RandomValues;
using testing::RepeatedOrder;
using testing::RepeatedRows;
using testing::RoundTo;
using testing::StoredTolerance;
using testing::TestMap;
using testing::TestTensor;
using testing::Workspace;

struct Size {
  std::int64_t rows, cols, distinct;
};
constexpr Size kSizes[] = {{1, 1, 1}, {3, 2, 2}, {65, 17, 9}, {130, 33, 130}, {131, 1100, 40}, {257, 64, 1}, {300, 131, 100}};

// The partition of rows into `distinct` clusters of a known order.
void BuildMap(Stream& stream, const Size& size, const TestMap& map) {
  const TestTensor rows(DType::kF32, {size.rows, 3}, RepeatedRows(size.rows, 3, size.distinct, "map"));
  testing::BuildExact(stream, AsMatrix(rows.tensor()), map);
}

// What a kernel must leave alone: rows from U on keep this.
constexpr double kUntouched = 42;
TestTensor Untouched(DType dtype, std::int64_t rows, std::int64_t cols) {
  return TestTensor(dtype, {rows, cols}, std::vector<double>(static_cast<std::size_t>(rows * cols), kUntouched));
}
std::vector<double> FirstRows(const TestTensor& to, std::int64_t rows, std::int64_t cols) {
  std::vector<double> values = to.values();
  for (std::size_t i = static_cast<std::size_t>(rows * cols); i < values.size(); ++i)
    EXPECT_EQ(values[i], kUntouched) << "row " << i / static_cast<std::size_t>(cols);
  values.resize(static_cast<std::size_t>(rows * cols));
  return values;
}

TEST(GatherRows, TakesTheFirstRowOfEachCluster) {
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kF64, DType::kI32}) {
    for (const Size& size : kSizes) {
      const CpuStream stream({.threads = 2});
      const TestMap map(size.rows);
      BuildMap(*stream, size, map);
      std::vector<double> values = RandomValues(size.rows * size.cols, "x", 100);
      if (dtype == DType::kI32) {
        for (double& v : values) v = std::floor(v);
      }
      const TestTensor x(dtype, {size.rows, size.cols}, values);
      TestTensor to = Untouched(dtype, size.rows, size.cols);
      GatherRows(*stream, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(to.tensor())});
      const std::vector<double> all = x.values();
      std::vector<double> expected;
      for (const std::int32_t row : map.representatives()) {
        expected.insert(expected.end(), all.begin() + row * size.cols, all.begin() + (row + 1) * size.cols);
      }
      EXPECT_EQ(FirstRows(to, map.size(), size.cols), expected);
    }
  }
}

TEST(SegmentSum, AddsMembersInTheOrderOfTheRows) {
  ForEveryIsa([&] {
    for (const DType dtype : kStoredDTypes) {
      for (const Size& size : kSizes) {
        for (const DType to_dtype : {dtype, ArithmeticDType(dtype)}) {
          for (const bool mean : {false, true}) {
            SCOPED_TRACE(::testing::Message() << Name(dtype) << " to " << Name(to_dtype) << " [" << size.rows << ", " << size.cols
                                              << "] of " << size.distinct << (mean ? " mean" : ""));
            const CpuStream one, three({.threads = 3});
            const TestMap map(size.rows);
            BuildMap(*one, size, map);
            const TestTensor dy(dtype, {size.rows, size.cols}, RandomValues(size.rows * size.cols, "dy"));
            TestTensor sums = Untouched(to_dtype, size.rows, size.cols), again = Untouched(to_dtype, size.rows, size.cols);
            SegmentSum(*one, {.map = *map, .dy = AsMatrix(dy.tensor()), .to = AsMatrix(sums.tensor()), .mean = mean});
            SegmentSum(*three, {.map = *map, .dy = AsMatrix(dy.tensor()), .to = AsMatrix(again.tensor()), .mean = mean});
            const std::vector<double> values = dy.values();
            std::vector<double> expected(static_cast<std::size_t>(map.size() * size.cols)), in_f32 = expected;
            for (std::int64_t m = 0; m < size.rows; ++m) {
              for (std::int64_t k = 0; k < size.cols; ++k) {
                const auto at = static_cast<std::size_t>(map->ids[m] * size.cols + k);
                const double value = values[static_cast<std::size_t>(m * size.cols + k)];
                expected[at] += value;
                in_f32[at] = dtype == DType::kF64 ? in_f32[at] + value : static_cast<float>(in_f32[at]) + static_cast<float>(value);
              }
            }
            for (std::size_t i = 0; i < expected.size(); ++i) {
              const double count = map->counts[i / static_cast<std::size_t>(size.cols)];
              if (!mean) continue;
              expected[i] /= count;
              in_f32[i] = dtype == DType::kF64 ? in_f32[i] / count : static_cast<float>(in_f32[i]) / static_cast<float>(count);
            }
            const std::vector<double> result = FirstRows(sums, map.size(), size.cols);
            EXPECT_TRUE(AllNear(result, expected, StoredTolerance(to_dtype, {.of_largest = 1e-5}, {.of_largest = 1e-14})));
            // f32 accumulation in the order of the rows, rounded once: to the bit.
            EXPECT_EQ(result, RoundTo(to_dtype, in_f32));
            EXPECT_EQ(result, FirstRows(again, map.size(), size.cols)) << "three threads";
          }
        }
      }
    }
  });
}

// Means, and the meter against both of its definitions.
TEST(ClusterMeans, AreTheMeansOfTheMembersAndMeterTheirError) {
  ForEveryIsa([&] {
    for (const DType dtype : kStoredDTypes) {
      for (const Size& size : kSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << size.rows << ", " << size.cols << "] of " << size.distinct);
        const CpuStream one, three({.threads = 3});
        const TestMap map(size.rows);
        BuildMap(*one, size, map);
        // Members of a cluster are near to each other, and far from zero.
        const std::vector<double> centers = RandomValues(size.distinct * size.cols, "centers"),
                                  noise = RandomValues(size.rows * size.cols, "noise", 0.02);
        std::vector<double> values;
        for (std::int64_t m = 0; m < size.rows; ++m) {
          for (std::int64_t k = 0; k < size.cols; ++k) {
            values.push_back(centers[static_cast<std::size_t>(map->ids[m] * size.cols + k)] +
                             noise[static_cast<std::size_t>(m * size.cols + k)]);
          }
        }
        const TestTensor x(dtype, {size.rows, size.cols}, values);
        const std::vector<double> stored = x.values();
        TestTensor means = Untouched(dtype, size.rows, size.cols), again = Untouched(dtype, size.rows, size.cols);
        const TestTensor workspace = Workspace(ClusterMeansBytes(size.rows));
        ReuseMeter meter = {-1, -1}, meter_again = {-1, -1};
        ClusterMeans(*one, {.map = *map,
                            .x = AsMatrix(x.tensor()),
                            .to = AsMatrix(means.tensor()),
                            .meter = &meter,
                            .workspace = workspace.tensor().data});
        ClusterMeans(*three, {.map = *map,
                              .x = AsMatrix(x.tensor()),
                              .to = AsMatrix(again.tensor()),
                              .meter = &meter_again,
                              .workspace = workspace.tensor().data});
        std::vector<double> expected(static_cast<std::size_t>(map.size() * size.cols));
        const auto cluster_at = [&](std::size_t i) {
          const std::size_t m = i / static_cast<std::size_t>(size.cols), k = i % static_cast<std::size_t>(size.cols);
          return static_cast<std::size_t>(map->ids[m]) * static_cast<std::size_t>(size.cols) + k;
        };
        for (std::size_t i = 0; i < stored.size(); ++i) expected[cluster_at(i)] += stored[i];
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] /= map->counts[i / static_cast<std::size_t>(size.cols)];
        const std::vector<double> result = FirstRows(means, map.size(), size.cols);
        EXPECT_TRUE(AllNear(result, expected, StoredTolerance(dtype, {.of_largest = 2e-6}, {.of_largest = 1e-14})));
        EXPECT_EQ(result, FirstRows(again, map.size(), size.cols));
        EXPECT_EQ(meter.squares, meter_again.squares);
        EXPECT_EQ(meter.error_squares, meter_again.error_squares);

        double squares = 0, direct = 0, of_means = 0;
        for (std::size_t i = 0; i < stored.size(); ++i) {
          squares += stored[i] * stored[i];
          direct += (stored[i] - expected[cluster_at(i)]) * (stored[i] - expected[cluster_at(i)]);
        }
        for (std::size_t i = 0; i < expected.size(); ++i)
          of_means += map->counts[i / static_cast<std::size_t>(size.cols)] * expected[i] * expected[i];
        EXPECT_NEAR(meter.squares, squares, 1e-12 * squares);
        EXPECT_NEAR(meter.error_squares, direct, (dtype == DType::kF64 ? 1e-12 : 1e-5) * direct + 1e-30);
        EXPECT_NEAR(1 - of_means / squares, direct / squares, 1e-11);
        EXPECT_NEAR(RelativeError(meter), std::sqrt(direct / squares), 1e-5 * std::sqrt(direct / squares) + 1e-15);
      }
    }
  });
}

// Of equal rows: the row itself, to the bit, and no error; so are infinities.
TEST(ClusterMeans, OfEqualRowsAreTheRow) {
  CpuStream stream;
  for (const DType dtype : kStoredDTypes) {
    std::vector<double> values = RepeatedRows(120, 37, 11, "x");
    const std::vector<std::int64_t> order = RepeatedOrder(120, 11);
    for (std::size_t m = 0; m < order.size(); ++m) {
      if (order[m] == 3) values[m * 37 + 5] = std::numeric_limits<double>::infinity();
    }
    const TestTensor x(dtype, {120, 37}, values);
    const TestMap map(120);
    testing::BuildExact(*stream, AsMatrix(x.tensor()), map);
    TestTensor means(dtype, {11, 37}), first(dtype, {11, 37});
    const TestTensor workspace = Workspace(ClusterMeansBytes(120));
    ReuseMeter meter;
    ClusterMeans(
        *stream,
        {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(means.tensor()), .meter = &meter, .workspace = workspace.tensor().data});
    GatherRows(*stream, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(first.tensor())});
    EXPECT_EQ(means.values(), first.values());
    EXPECT_EQ(meter.error_squares, 0);
    EXPECT_EQ(RelativeError({}), 0);
  }
}

TEST(ScatterRows, GivesEveryRowItsClusters) {
  ForEveryIsa([&] {
    for (const DType dtype : kStoredDTypes) {
      for (const Size& size : kSizes) {
        for (const bool mean : {false, true}) {
          for (const bool add : {false, true}) {
            SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << size.rows << ", " << size.cols << "] of " << size.distinct);
            const CpuStream one, three({.threads = 3});
            const TestMap map(size.rows);
            BuildMap(*one, size, map);
            const TestTensor c(dtype, {size.distinct, size.cols}, RandomValues(size.distinct * size.cols, "c"));
            const TestTensor residual(dtype, {size.rows, size.cols}, RandomValues(size.rows * size.cols, "residual"));
            TestTensor y(dtype, {size.rows, size.cols}), again(dtype, {size.rows, size.cols});
            ScatterRowsArgs args = {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor()), .mean = mean};
            if (add) args.residual = AsMatrix(residual.tensor());
            ScatterRows(*one, args);
            args.y = AsMatrix(again.tensor());
            ScatterRows(*three, args);
            const std::vector<double> from = c.values(), added = residual.values();
            std::vector<double> expected;
            for (std::int64_t m = 0; m < size.rows; ++m) {
              for (std::int64_t k = 0; k < size.cols; ++k) {
                expected.push_back(from[static_cast<std::size_t>(map->ids[m] * size.cols + k)] / (mean ? map->counts[map->ids[m]] : 1) +
                                   (add ? added[static_cast<std::size_t>(m * size.cols + k)] : 0));
              }
            }
            if (!mean && !add) {
              EXPECT_EQ(y.values(), expected);
            } else {
              EXPECT_TRUE(AllNear(y.values(), expected, StoredTolerance(dtype, {.of_largest = 1e-6}, {.of_largest = 1e-15})));
            }
            EXPECT_EQ(y.values(), again.values());
          }
        }
      }
    }
  });
}

// A bf16 sum of f32 rows and a residual is rounded once: to the bit.
TEST(ScatterRows, RoundsOnceWhatIsWide) {
  ForEveryIsa([&] {
    for (const Size& size : kSizes) {
      SCOPED_TRACE(::testing::Message() << "[" << size.rows << ", " << size.cols << "] of " << size.distinct);
      const CpuStream one, three({.threads = 3});
      const TestMap map(size.rows);
      BuildMap(*one, size, map);
      const TestTensor c(DType::kF32, {size.distinct, size.cols}, RandomValues(size.distinct * size.cols, "c"));
      const TestTensor residual(DType::kBF16, {size.rows, size.cols}, RandomValues(size.rows * size.cols, "residual"));
      TestTensor y(DType::kBF16, {size.rows, size.cols}), again(DType::kBF16, {size.rows, size.cols});
      ScatterRowsArgs args = {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor()), .residual = AsMatrix(residual.tensor())};
      ScatterRows(*one, args);
      args.y = AsMatrix(again.tensor());
      ScatterRows(*three, args);
      const std::vector<double> from = c.values(), added = residual.values();
      std::vector<double> sums;
      for (std::int64_t m = 0; m < size.rows; ++m) {
        for (std::int64_t k = 0; k < size.cols; ++k) {
          sums.push_back(static_cast<float>(from[static_cast<std::size_t>(map->ids[m] * size.cols + k)]) +
                         static_cast<float>(added[static_cast<std::size_t>(m * size.cols + k)]));
        }
      }
      EXPECT_EQ(y.values(), RoundTo(DType::kBF16, sums));
      EXPECT_EQ(y.values(), again.values());
    }
  });
}

TEST(GatherScatter, RefuseWhatIsNoPartitionOfRows) {
  const TestTensor x(DType::kF32, {4, 2}, RandomValues(8, "x"));
  TestTensor to(DType::kF32, {4, 2}, std::vector<double>(8, kUntouched));
  const TestMap map(4, MapDim::kBlock, MapKind::kBlockMask);
  const CpuStream gather, means, sums, scatter;
  GatherRows(*gather, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(to.tensor())});
  ClusterMeans(*means, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(to.tensor())});
  SegmentSum(*sums, {.map = *map, .dy = AsMatrix(x.tensor()), .to = AsMatrix(to.tensor())});
  ScatterRows(*scatter, {.map = *map, .c = AsMatrix(x.tensor()), .y = AsMatrix(to.tensor())});
  for (const CpuStream* stream : {&gather, &means, &sums, &scatter}) {
    EXPECT_THAT(std::string((*stream)->status().message()), ::testing::HasSubstr("a block mask of 4 blocks"));
  }
  EXPECT_EQ(to.values(), std::vector<double>(8, kUntouched));
}

}  // namespace
}  // namespace lycia
