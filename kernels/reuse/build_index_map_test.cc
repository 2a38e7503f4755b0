#include "kernels/reuse/build_index_map.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reuse/testing/reuse_case.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/test_tensor.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::ExpectPartition;
using testing::ForEveryIsa;
using testing::IdsByPairs;
using testing::kStoredDTypes;
using testing::RandomValues;
using testing::RepeatedRows;
using testing::TestMap;
using testing::TestTensor;
using testing::Workspace;

struct Size {
  std::int64_t rows, cols, distinct;
};
constexpr Size kSizes[] = {{1, 1, 1},     {2, 3, 1},      {5, 7, 5},      {64, 17, 20},   {127, 33, 1},   {129, 64, 64},
                           {200, 65, 77}, {300, 131, 30}, {513, 16, 400}, {131, 515, 50}, {1000, 5, 333}, {0, 4, 0}};

const char* RowAt(const TestTensor& x, std::int64_t ld, std::int64_t row) {
  return static_cast<const char*>(x.tensor().data) + row * ld * SizeOf(x.tensor().dtype);
}
bool SameBits(const TestTensor& x, std::int64_t cols, std::int64_t ld, std::int64_t a, std::int64_t b) {
  return std::memcmp(RowAt(x, ld, a), RowAt(x, ld, b), static_cast<std::size_t>(cols * SizeOf(x.tensor().dtype))) == 0;
}

void Build(Stream& stream, const ConstMatrix& rows, const ReuseRule& rule, const TestMap& map) {
  const TestTensor workspace = Workspace(BuildIndexMapBytes(rule, rows.dtype, rows.rows));
  BuildIndexMap(stream, {.rows = rows, .rule = rule, .map = *map, .workspace = workspace.tensor().data});
}

// Rows of memory longer than the rows that are compared, with other bits behind each.
TEST(BuildIndexMap, ExactFindsEqualBits) {
  ForEveryIsa([&] {
    for (const DType dtype : kStoredDTypes) {
      for (const auto& [rows, cols, distinct] : kSizes) {
        for (const std::int64_t padding : {0, 3}) {
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << rows << ", " << cols << "] + " << padding << " of " << distinct);
          const std::vector<double> values = RepeatedRows(rows, cols, std::max<std::int64_t>(distinct, 1), "x");
          const std::vector<double> behind = RandomValues(rows * padding, "behind");
          std::vector<double> all;
          for (std::int64_t m = 0; m < rows; ++m) {
            all.insert(all.end(), values.begin() + m * cols, values.begin() + (m + 1) * cols);
            all.insert(all.end(), behind.begin() + m * padding, behind.begin() + (m + 1) * padding);
          }
          const std::int64_t ld = cols + padding;
          const TestTensor x(dtype, {rows, ld}, all);
          const auto truth = IdsByPairs(rows, [&](auto a, auto b) { return SameBits(x, cols, ld, a, b); });
          for (const int threads : {1, 2, 3}) {
            const CpuStream stream({.threads = threads});
            const TestMap map(rows);
            Build(*stream, {x.tensor().data, dtype, rows, cols, ld}, {}, map);
            ExpectPartition(*map, truth);
          }
        }
      }
    }
  });
}

// The one bit that differs may stand anywhere, in a vector, between vectors and in the rest.
TEST(BuildIndexMap, ExactSeesEveryBit) {
  CpuStream stream;
  constexpr std::int64_t kCols = 150;
  ForEveryIsa([&] {
    for (std::int64_t col = 0; col < kCols; ++col) {
      TestTensor x(DType::kF32, {3, kCols}, std::vector<double>(3 * kCols, 1.0));
      auto* bits = static_cast<std::uint32_t*>(x.tensor().data);
      bits[2 * kCols + col] ^= 1u << (col % 32);
      const TestMap map(3);
      Build(*stream, AsMatrix(x.tensor()), {}, map);
      ASSERT_EQ(map.ids(), (std::vector<std::int32_t>{0, 0, 1})) << col;
    }
  });
}

TEST(BuildIndexMap, ExactTellsZerosApartAndJoinsEqualNaNs) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const TestTensor x(DType::kF32, {7, 2}, {0, 1, -0.0, 1, nan, 1, 0, 1, nan, 1, inf, 1, inf, 1});
  const TestMap map(7);
  Build(*stream, AsMatrix(x.tensor()), {}, map);
  EXPECT_EQ(map.ids(), (std::vector<std::int32_t>{0, 1, 2, 0, 2, 3, 3}));
}

TEST(BuildIndexMap, QuantizedJoinsWhatRoundsAlike) {
  ForEveryIsa([&] {
    for (const DType dtype : kStoredDTypes) {
      for (const auto& [rows, cols, distinct] : kSizes) {
        if (rows == 0) continue;
        const double delta = 0.25;  // a power of two: quotients are exact in every type
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << rows << ", " << cols << "] of " << distinct);
        std::vector<double> values = RepeatedRows(rows, cols, distinct, "x");
        const std::vector<double> noise = RandomValues(rows * cols, "noise", 0.002);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += noise[i];
        const TestTensor x(dtype, {rows, cols}, values);
        const std::vector<double> stored = x.values();
        const auto truth = IdsByPairs(rows, [&](std::int64_t a, std::int64_t b) {
          for (std::int64_t k = 0; k < cols; ++k) {
            const auto at = [&](std::int64_t row) { return std::nearbyint(stored[static_cast<std::size_t>(row * cols + k)] / delta); };
            if (at(a) != at(b)) return false;
          }
          return true;
        });
        for (const int threads : {1, 2, 3}) {
          const CpuStream stream({.threads = threads});
          const TestMap map(rows);
          Build(*stream, AsMatrix(x.tensor()), {.policy = ReusePolicy::kQuantized, .delta = delta}, map);
          ExpectPartition(*map, truth);
        }
      }
    }
  });
}

TEST(BuildIndexMap, QuantizedAtItsEdges) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  ForEveryIsa([&] {
    // Ties go to even: 0.5 -> 0, 1.5 -> 2, -0.5 -> 0. A NaN row equals its own bits only, even beside elements that round alike.
    const TestTensor x(DType::kF32, {12, 2},
                       {0.5, 0, 0, 0.1, -0.5, -0.0, 1.5, 0, 2, 0.2, nan, 0, nan, 0.1, nan, 0, inf, 0, 3e38, 0, -inf, 0, 8388609, 0});
    const TestMap map(12);
    Build(*stream, AsMatrix(x.tensor()), {.policy = ReusePolicy::kQuantized, .delta = 1}, map);
    EXPECT_EQ(map.ids(), (std::vector<std::int32_t>{0, 0, 0, 1, 1, 2, 3, 2, 4, 5, 6, 7}));
    // A quotient beyond the largest number is an infinity.
    const TestMap fine(12);
    Build(*stream, AsMatrix(x.tensor()), {.policy = ReusePolicy::kQuantized, .delta = 1e-3}, fine);
    EXPECT_EQ(fine->ids[8], fine->ids[9]);
    EXPECT_NE(fine->ids[8], fine->ids[10]);
  });
}

class Projections {
 public:
  Projections(Stream& stream, DType dtype, std::int64_t cols, std::uint64_t seed, double width, std::int64_t count = kProjections)
      : projections_(dtype, {count, cols}), shifts_(DType::kF64, {count}) {
    MakeProjections(stream, {.seed = seed, .projections = projections_, .shifts = shifts_});
    rule_ = {.policy = ReusePolicy::kLsh, .width = width, .projections = AsMatrix(projections_.tensor()), .shifts = shifts_};
  }
  const ReuseRule& rule() const { return rule_; }
  const TestTensor& values() const { return projections_; }
  const TestTensor& shifts() const { return shifts_; }

 private:
  TestTensor projections_, shifts_;
  ReuseRule rule_;
};

// H is a count of projections that the kernel takes together, and one more.
void ExpectCells(std::int64_t H) {
  for (const DType dtype : kStoredDTypes) {
    for (const auto& [rows, cols, distinct] : kSizes) {
      if (rows == 0) continue;
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << rows << ", " << cols << "] of " << distinct);
      const CpuStream one, three({.threads = 3});
      std::vector<double> values = RepeatedRows(rows, cols, distinct, "x");
      const std::vector<double> noise = RandomValues(rows * cols, "noise", 0.01);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += noise[i];
      const TestTensor x(dtype, {rows, cols}, values);
      const double width = 2 * std::sqrt(static_cast<double>(cols));
      const Projections projections(*one, dtype, cols, 11, width, H);
      const TestMap map(rows), again(rows);
      Build(*one, AsMatrix(x.tensor()), projections.rule(), map);
      Build(*three, AsMatrix(x.tensor()), projections.rule(), again);
      ExpectPartition(*map, map.ids());
      EXPECT_EQ(map.ids(), again.ids());
      // Two rows share a cluster exactly where no cell differs; a projection so near to a border that its rounding decides is not judged.
      const std::vector<double> stored = x.values(), a = projections.values().values(), shifts = projections.shifts().values();
      std::vector<double> place(static_cast<std::size_t>(rows * H));
      for (std::int64_t m = 0; m < rows; ++m) {
        for (std::int64_t h = 0; h < H; ++h) {
          double sum = 0;
          for (std::int64_t k = 0; k < cols; ++k) {
            sum += stored[static_cast<std::size_t>(m * cols + k)] * a[static_cast<std::size_t>(h * cols + k)];
          }
          place[static_cast<std::size_t>(m * H + h)] = sum / width + shifts[static_cast<std::size_t>(h)];
        }
      }
      std::int64_t judged = 0, joined = 0;
      for (std::int64_t m = 0; m < rows; ++m) {
        for (std::int64_t other = 0; other < m; ++other) {
          bool same = true, clear = true;
          for (std::int64_t h = 0; h < H; ++h) {
            const double p = place[static_cast<std::size_t>(m * H + h)], q = place[static_cast<std::size_t>(other * H + h)];
            same = same && std::floor(p) == std::floor(q);
            clear = clear && std::abs(p - std::round(p)) > 1e-4 && std::abs(q - std::round(q)) > 1e-4;
          }
          if (!clear) continue;
          ++judged;
          joined += same;
          ASSERT_EQ(map->ids[m] == map->ids[other], same) << m << ", " << other;
        }
      }
      if (rows <= 100) continue;
      EXPECT_GT(judged, rows);
      EXPECT_GE(joined, distinct < rows / 2 && dtype != DType::kBF16 ? 1 : 0);
    }
  }
}

TEST(BuildIndexMap, LshJoinsWhatFallsIntoOneCell) {
  ForEveryIsa([] {
    ExpectCells(kProjections);
    ExpectCells(kProjections + 1);
  });
}

TEST(BuildIndexMap, LshLeavesRowsWithoutFiniteProjectionsToTheirBits) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const TestTensor x(DType::kF32, {6, 2}, {nan, 1, nan, 1, nan, 1.001, inf, 1, inf, 1, 2, 1});
  const Projections projections(*stream, DType::kF32, 2, 3, 100);
  const TestMap map(6);
  Build(*stream, AsMatrix(x.tensor()), projections.rule(), map);
  EXPECT_EQ(map.ids(), (std::vector<std::int32_t>{0, 0, 1, 2, 2, 3}));
}

TEST(BuildIndexMap, ProjectionsAreAFunctionOfTheSeed) {
  CpuStream stream;
  const Projections a(*stream, DType::kF32, 33, 5, 1), b(*stream, DType::kF32, 33, 5, 1), c(*stream, DType::kF32, 33, 6, 1);
  EXPECT_EQ(a.values().values(), b.values().values());
  EXPECT_EQ(a.shifts().values(), b.shifts().values());
  EXPECT_NE(a.values().values(), c.values().values());
  for (const double shift : a.shifts().values()) EXPECT_TRUE(shift >= 0 && shift < 1) << shift;
}

TEST(BuildIndexMap, AllocatesNothing) {
  const CpuStream stream({.threads = 2});
  const TestTensor x(DType::kF32, {400, 200}, RepeatedRows(400, 200, 150, "x"));
  const Projections projections(*stream, DType::kF32, 200, 5, 10);
  for (const ReuseRule& rule : {ReuseRule{}, ReuseRule{.policy = ReusePolicy::kQuantized, .delta = 0.1}, projections.rule()}) {
    const TestMap map(400);
    const TestTensor workspace = Workspace(BuildIndexMapBytes(rule, DType::kF32, 400));
    const auto build = [&] {
      BuildIndexMap(*stream, {.rows = AsMatrix(x.tensor()), .rule = rule, .map = *map, .workspace = workspace.tensor().data});
    };
    build();
    const std::int64_t before = testing::AllocationsOfThisThread();
    build();
    EXPECT_EQ(testing::AllocationsOfThisThread(), before);
  }
}

TEST(IndexMap, RefusesWhatItCannotDo) {
  CpuStream stream;
  const TestTensor x(DType::kF32, {4, 2}, RandomValues(8, "x"));
  const TestMap map(4, MapDim::kN, MapKind::kSubset);
  Build(*stream, AsMatrix(x.tensor()), {}, map);
  EXPECT_EQ(stream->status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(stream->status().message()),
              ::testing::AllOf(::testing::HasSubstr("BuildIndexMap"), ::testing::HasSubstr("a subset of 4 columns (N)")));
}

}  // namespace
}  // namespace lycia
