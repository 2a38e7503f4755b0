// Maps of rows that are alike, and means of clusters, against the map that the CPU builds (build_index_map_test proves that one against
// pairs of rows) and against definitions. Twice each, since the emulator turns the order of the threads around.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/measures.h"
#include "kernels/reuse/signature_keys.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

struct Size {
  std::int64_t rows, cols, distinct;
  std::int64_t ld = 0;  // 0: cols
};
constexpr Size kSizes[] = {{0, 3, 1},      {1, 1, 1},      {3, 2, 2},    {65, 17, 9, 20},
                           {130, 64, 130}, {131, 300, 40}, {257, 33, 1}, {700, 6, 300, 8}};

// What each row repeats: any of the distinct ones, in no order.
std::int64_t Repeated(std::int64_t m, std::int64_t distinct) { return (m * m + m / 3) % distinct; }

class ReuseMapTest : public KernelFixture {
 protected:
  // [rows, ld]: rows that repeat, each element off by up to `noise`; what lies behind their columns differs in every row.
  Values Repeating(const Size& s, DType dtype, double noise) {
    const std::int64_t ld = s.ld == 0 ? s.cols : s.ld;
    const Values distinct = Random(s.distinct * s.cols, "distinct", dtype), off = testing::RandomValues(s.rows * ld, "noise", noise);
    Values x(static_cast<std::size_t>(s.rows * ld));
    for (std::int64_t m = 0; m < s.rows; ++m) {
      for (std::int64_t k = 0; k < ld; ++k) {
        const auto at = static_cast<std::size_t>(m * ld + k);
        const double value = k < s.cols ? distinct[static_cast<std::size_t>(Repeated(m, s.distinct) * s.cols + k)] : static_cast<double>(m);
        x[at] = value + (k < s.cols ? off[at] : 0);
      }
    }
    return testing::RoundTo(dtype, x);
  }
  static ConstMatrix Rows(const Tensor& memory, const Size& s) {
    return {memory.data, memory.dtype, s.rows, s.cols, s.ld == 0 ? s.cols : s.ld};
  }

  // A map in the device's memory.
  struct Map {
    Tensor memory;
    IndexMap map;
  };
  Map NewMap(std::int64_t rows) {
    const Tensor memory = Poisoned(DType::kU8, {IndexMapBytes(rows)});
    return {memory, IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, rows)};
  }
  Map Build(const ConstMatrix& rows, const ReuseRule& rule) {
    const Map map = NewMap(rows.rows);
    const Tensor workspace = Poisoned(DType::kU8, {BuildIndexMapBytes(rule, rows.dtype, rows.rows)});
    BuildIndexMap(*stream_, {.rows = rows, .rule = rule, .map = map.map, .workspace = workspace.data});
    return map;
  }
  // All that a map says, in one list.
  static std::vector<std::int32_t> Said(const IndexMap& map) {
    std::vector<std::int32_t> said{*map.size};
    const auto add = [&](const std::int32_t* array, std::int64_t count) { said.insert(said.end(), array, array + count); };
    add(map.ids, map.extent);
    add(map.representatives, *map.size);
    add(map.counts, *map.size);
    add(map.members, map.extent);
    add(map.offsets, *map.size + 1);
    return said;
  }
  std::vector<std::int32_t> Read(const Map& map) {
    std::string bytes = Bytes(map.memory);
    const IndexMap host = IndexMapIn(bytes.data(), MapDim::kM, MapKind::kPartition, map.map.extent);
    if (*host.size < 0 || *host.size > host.extent) {
      ADD_FAILURE() << "a map of " << *host.size << " clusters";
      return {};
    }
    return Said(host);
  }
  // The CPU does not take f16; its numbers are numbers of f32.
  static DType OfTruth(DType dtype) { return dtype == DType::kF16 ? DType::kF32 : dtype; }
  // What the CPU finds in the same values.
  static std::vector<std::int32_t> Truth(const ConstMatrix& rows, const ReuseRule& rule) {
    const std::unique_ptr<Device> device = NewCpuDevice();
    StatusOr<std::unique_ptr<Stream>> stream = device->NewStream();
    LYCIA_CHECK_OK(stream.status());
    std::vector<std::int64_t> memory(static_cast<std::size_t>(IndexMapBytes(rows.rows) / 8 + 8)),
        workspace(static_cast<std::size_t>(BuildIndexMapBytes(rule, rows.dtype, rows.rows) / 8 + 8));
    const IndexMap map = IndexMapIn(memory.data(), MapDim::kM, MapKind::kPartition, rows.rows);
    cpu::BuildIndexMap(**stream, {.rows = rows, .rule = rule, .map = map, .workspace = workspace.data()});
    return Said(map);
  }
  // Of f16, which the CPU does not take, the same numbers in f32.
  void ExpectTheCpusMap(const Values& x, DType dtype, const Size& s, const ReuseRule& rule, const ReuseRule& host_rule) {
    const auto elements = static_cast<std::int64_t>(x.size());
    testing::TestTensor host(OfTruth(dtype), {elements}, x);
    const std::vector<std::int32_t> truth = Truth(Rows(host.tensor(), s), host_rule);
    const Tensor device = Put(x, dtype, {elements});
    EXPECT_EQ(Read(Build(Rows(device, s), rule)), truth);
    EXPECT_EQ(Read(Build(Rows(device, s), rule)), truth) << "again";
  }
};

TEST_P(ReuseMapTest, ExactAndQuantizedAreTheCpusMap) {
  for (const DType dtype : Stored()) {
    for (const Size& s : kSizes) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << s.rows << ", " << s.cols << "] of " << s.distinct);
      ExpectTheCpusMap(Repeating(s, dtype, 0), dtype, s, {}, {});
      const ReuseRule quantized{.policy = ReusePolicy::kQuantized, .delta = 0.3};
      ExpectTheCpusMap(Repeating(s, dtype, 0.001), dtype, s, quantized, quantized);
      Release();
      if (HasFailure()) return;
    }
  }
}

TEST_P(ReuseMapTest, NumbersAtTheEdgesAreTheCpusMap) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const Values x{0.5, 0, 0, 0.1, -0.5, -0.0, 1.5, 0, 2, 0.2, nan, 0, nan, 0.1, nan, 0, inf, 0, 3e38, 0, -inf, 0, 8388609, 0, 0, 0, -0.0, 0};
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const double delta : {1.0, 1e-3}) {
      const ReuseRule rule{.policy = ReusePolicy::kQuantized, .delta = delta};
      ExpectTheCpusMap(x, dtype, {14, 2, 1}, rule, rule);
    }
    ExpectTheCpusMap(x, dtype, {14, 2, 1}, {}, {});
  }
}

// Words whose lower half, once the key is added, is zero: their products are zero, whatever the upper half.
TEST_P(ReuseMapTest, DifferentRowsOfOneSignatureStayApart) {
  constexpr std::int64_t kRows = 150, kDistinct = 11;
  std::vector<std::uint64_t> words(kRows);
  for (std::int64_t m = 0; m < kRows; ++m) {
    words[static_cast<std::size_t>(m)] = (static_cast<std::uint64_t>(Repeated(m, kDistinct) + 1) << 32) - kFirstKey;
    ASSERT_EQ(KeyedProduct(words[static_cast<std::size_t>(m)], kFirstKey), 0u);
  }
  const Tensor x = Poisoned(DType::kF32, {kRows, 2});
  stream_->Copy(x.data, words.data(), x.bytes());
  LYCIA_CHECK_OK(stream_->Synchronize());
  const std::vector<std::int32_t> truth = Truth({words.data(), DType::kF32, kRows, 2, 2}, {});
  EXPECT_GT(truth[0], 5);
  EXPECT_EQ(Read(Build(AsMatrix(x), {})), truth);
  EXPECT_EQ(Read(Build(AsMatrix(x), {})), truth) << "again";
}

// Rows near one another, far from the borders of cells: so that rounding decides nothing, projections are whole numbers and a half.
TEST_P(ReuseMapTest, CellsOfProjectionsAreTheCpusMap) {
  for (const DType dtype : Stored()) {
    for (const std::int64_t count : {kProjections, kProjections + 3}) {
      for (const Size& s : {Size{70, 33, 9}, Size{41, 16, 41, 24}, Size{9, 2, 3}}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << s.rows << ", " << s.cols << "] " << count);
        const std::int64_t ld = s.ld == 0 ? s.cols : s.ld;
        Values x = testing::RandomValues(s.rows * ld, "x", 2), a = testing::RandomValues(count * s.cols, "a", 1), shifts;
        for (std::int64_t m = 0; m < s.rows; ++m) {
          for (std::int64_t k = 0; k < ld; ++k)
            x[static_cast<std::size_t>(m * ld + k)] = x[static_cast<std::size_t>(Repeated(m, s.distinct) * ld + k)];
        }
        for (double& value : x) value = std::nearbyint(value);
        for (double& value : a) value = std::nearbyint(2 * value);
        for (std::int64_t h = 0; h < count; ++h) shifts.push_back(0.125 * static_cast<double>(h % 4) + 0.0625);
        // A row that no number projects is like its equals in bits alone.
        x[0] = x[static_cast<std::size_t>((s.rows - 1) * ld)] = std::numeric_limits<double>::infinity();
        testing::TestTensor host_a(OfTruth(dtype), {count, s.cols}, a), host_shifts(DType::kF64, {count}, shifts);
        const ReuseRule host{.policy = ReusePolicy::kLsh, .width = 4, .projections = AsMatrix(host_a.tensor()), .shifts = host_shifts};
        ReuseRule rule = host;
        rule.projections = AsMatrix(ConstTensor(Put(a, dtype, {count, s.cols})));
        rule.shifts = Put(shifts, DType::kF64, {count});
        ExpectTheCpusMap(x, dtype, s, rule, host);
        Release();
      }
    }
  }
}

// More rows than two passes of the sort take.
TEST_P(ReuseMapTest, ManyRowsAreTheCpusMap) {
  const Size s{66000, 2, 1500};
  const Values x = Repeating(s, DType::kF32, 0);
  testing::TestTensor host(DType::kF32, {s.rows, s.cols}, x);
  EXPECT_EQ(Read(Build(AsMatrix(ConstTensor(Put(x, DType::kF32, {s.rows, s.cols}))), {})), Truth(Rows(host.tensor(), s), {}));
}

TEST_P(ReuseMapTest, MeansAndTheirMeterAreTheDefinitions) {
  for (const DType dtype : Stored()) {
    for (const Size& s : {Size{1, 1, 1}, Size{65, 17, 9, 20}, Size{131, 300, 40}, Size{257, 64, 1}, Size{130, 8, 130}}) {
      for (const double noise : {0.0, 0.02}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << s.rows << ", " << s.cols << "] of " << s.distinct << " +- " << noise);
        const Values x = Repeating(s, dtype, noise);
        const std::int64_t ld = s.ld == 0 ? s.cols : s.ld;
        const Tensor device = Put(x, dtype, {static_cast<std::int64_t>(x.size())});
        // Clusters as the noise had them, found exactly in whole numbers.
        Values names;
        for (std::int64_t m = 0; m < s.rows; ++m) names.push_back(static_cast<double>(Repeated(m, s.distinct)));
        const Map map = Build(AsMatrix(ConstTensor(Put(names, DType::kF32, {s.rows, 1}))), {});
        const std::vector<std::int32_t> said = Read(map);
        if (HasFailure()) return;
        const std::int64_t U = said[0];
        Values means(static_cast<std::size_t>(U * s.cols)), counts(static_cast<std::size_t>(U));
        const auto id = [&](std::int64_t m) { return static_cast<std::int64_t>(said[static_cast<std::size_t>(1 + m)]); };
        for (std::int64_t m = 0; m < s.rows; ++m) ++counts[static_cast<std::size_t>(id(m))];
        for (std::int64_t m = 0; m < s.rows; ++m) {
          for (std::int64_t k = 0; k < s.cols; ++k) {
            means[static_cast<std::size_t>(id(m) * s.cols + k)] +=
                x[static_cast<std::size_t>(m * ld + k)] / counts[static_cast<std::size_t>(id(m))];
          }
        }
        double squares = 0, errors = 0;
        for (std::int64_t m = 0; m < s.rows; ++m) {
          for (std::int64_t k = 0; k < s.cols; ++k) {
            const double value = x[static_cast<std::size_t>(m * ld + k)], off = value - means[static_cast<std::size_t>(id(m) * s.cols + k)];
            squares += value * value;
            errors += off * off;
          }
        }
        const Tensor to = Poisoned(dtype, {s.rows, s.cols}), meter = Poisoned(DType::kF64, {2}),
                     workspace = Poisoned(DType::kU8, {ClusterMeansBytes(s.rows)});
        ClusterMeans(*stream_, {.map = map.map,
                                .x = Rows(device, s),
                                .to = AsMatrix(to),
                                .meter = static_cast<ReuseMeter*>(meter.data),
                                .workspace = workspace.data});
        ExpectNear("means", {to.data, dtype, {U, s.cols}}, means, {.of_largest = 1e-5});
        const Values measured = Get(meter);
        EXPECT_NEAR(measured[0], squares, 1e-6 * squares);
        EXPECT_NEAR(measured[1], errors, 1e-5 * errors + 1e-20 * squares);  // the truth's means are rounded too
        EXPECT_TRUE(noise > 0 || measured[1] == 0);
        const Tensor alone = Poisoned(dtype, {s.rows, s.cols});
        ClusterMeans(*stream_, {.map = map.map, .x = Rows(device, s), .to = AsMatrix(alone)});
        EXPECT_EQ(Bytes(alone), Bytes(to));  // also what lies behind the clusters, which is poison
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(ReuseMapTest, GradientsOfBothWaysAreCompared) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const Values a = Random(777, "a", dtype), b = Random(777, "b", dtype);
    Values sums(3);
    for (std::size_t i = 0; i < a.size(); ++i) sums[0] += a[i] * b[i], sums[1] += a[i] * a[i], sums[2] += b[i] * b[i];
    const Tensor measures = Put(Values(kReuseMeasures, 1), DType::kF64, {kReuseMeasures});
    CompareGradients(
        *stream_,
        {.dense = Put(a, dtype, {7, 111}), .reused = Put(b, dtype, {7, 111}), .measures = static_cast<ReuseMeasures*>(measures.data)});
    ExpectNear("sums", measures, {1, 1, 1, 1, 1 + sums[0], 1 + sums[1], 1 + sums[2], 1}, {.of_largest = 1e-5});
  }
}

TEST_P(ReuseMapTest, BiasGradientsAreSumsOfAsManyRowsAsTheMapSays) {
  for (const DType dtype : Stored()) {
    for (const Size& s : {Size{1, 1, 1}, Size{65, 17, 9, 20}, Size{131, 304, 40}, Size{300, 64, 100}}) {
      Values names;
      for (std::int64_t m = 0; m < s.rows; ++m) names.push_back(static_cast<double>(Repeated(m, s.distinct)));
      const Map map = Build(AsMatrix(ConstTensor(Put(names, DType::kF32, {s.rows, 1}))), {});
      const std::int64_t U = Read(map)[0], ld = s.ld == 0 ? s.cols : s.ld;
      Values dout = Random(s.rows * ld, "dout", dtype), expected(static_cast<std::size_t>(s.cols), 0.5);
      for (std::int64_t m = 0; m < s.rows; ++m) {
        for (std::int64_t k = 0; k < s.cols; ++k) {
          double& value = dout[static_cast<std::size_t>(m * ld + k)];
          if (m < U)
            expected[static_cast<std::size_t>(k)] += value;
          else
            value = std::numeric_limits<double>::quiet_NaN();
        }
      }
      const DType sums = ArithmeticDType(dtype);
      const Tensor dbias = Put(Values(static_cast<std::size_t>(s.cols), 0.5), sums, {s.cols});
      MappedBiasGradient(*stream_, {.map = map.map, .dout = Rows(Put(dout, dtype, {s.rows * ld}), s), .dbias = dbias});
      ExpectNear("dbias", dbias, expected, {.of_largest = 1e-5});
      Release();
    }
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ReuseMapTest);

}  // namespace
}  // namespace lycia
