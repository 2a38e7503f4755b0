// Gathering, sums and scattering over a partition against their definitions, on maps made by the host.
#include <cmath>
#include <cstring>

#include "kernels/reuse/gather.h"
#include "kernels/reuse/measures.h"
#include "kernels/reuse/scatter.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

struct Partition {
  std::vector<std::int32_t> ids, representatives, counts, members, offsets;
  std::int64_t size() const { return static_cast<std::int64_t>(counts.size()); }
};
// Clusters in the order of their first rows.
Partition PartitionOf(std::int64_t rows, std::int64_t distinct) {
  Partition p;
  std::vector<std::int32_t> name(static_cast<std::size_t>(distinct), -1);
  for (std::int64_t m = 0; m < rows; ++m) {
    std::int32_t& id = name[static_cast<std::size_t>((m * m + m / 3) % distinct)];
    if (id < 0) {
      id = static_cast<std::int32_t>(p.size());
      p.representatives.push_back(static_cast<std::int32_t>(m));
      p.counts.push_back(0);
    }
    p.ids.push_back(id);
    ++p.counts[static_cast<std::size_t>(id)];
  }
  p.offsets.push_back(0);
  for (std::int32_t j = 0; j < p.size(); ++j) {
    for (std::int64_t m = 0; m < rows; ++m) {
      if (p.ids[static_cast<std::size_t>(m)] == j) p.members.push_back(static_cast<std::int32_t>(m));
    }
    p.offsets.push_back(static_cast<std::int32_t>(p.members.size()));
  }
  return p;
}

struct Size {
  std::int64_t rows, cols, distinct;
};
constexpr Size kSizes[] = {{1, 1, 1}, {3, 2, 2}, {65, 17, 9}, {130, 33, 130}, {131, 1100, 40}, {257, 64, 1}, {300, 131, 100}};

class ReuseTest : public KernelFixture {
 protected:
  // On the device; what lies beyond the clusters is poison.
  IndexMap Put(const Partition& p) {
    const auto rows = static_cast<std::int64_t>(p.ids.size());
    const auto put = [&](const std::vector<std::int32_t>& values, std::int64_t count) {
      Values padded(values.begin(), values.end());
      padded.resize(static_cast<std::size_t>(count), -1e9);
      return KernelFixture::Put(padded, DType::kI32, {count}).as<std::int32_t>();
    };
    return {.extent = rows,
            .size = put({static_cast<std::int32_t>(p.size())}, 1),
            .ids = put(p.ids, rows),
            .representatives = put(p.representatives, rows),
            .counts = put(p.counts, rows),
            .members = put(p.members, rows),
            .offsets = put(p.offsets, rows + 1)};
  }
  using KernelFixture::Put;
};

TEST_P(ReuseTest, EqualsTheDefinitions) {
  for (const DType dtype : Stored()) {
    for (const auto& [rows, cols, distinct] : kSizes) {
      for (const bool mean : {false, true}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << rows << ", " << cols << "] of " << distinct << (mean ? " mean" : ""));
        const Partition p = PartitionOf(rows, distinct);
        const IndexMap map = Put(p);
        const Values x = Random(rows * cols, "x", dtype), r = Random(rows * cols, "r", dtype);
        const std::int64_t U = p.size();
        Values first(static_cast<std::size_t>(U * cols)), sums = first, spread(x.size()), added = spread;
        for (std::int64_t m = rows - 1; m >= 0; --m) {
          for (std::int64_t k = 0; k < cols; ++k) {
            const auto at = static_cast<std::size_t>(p.ids[static_cast<std::size_t>(m)] * cols + k),
                       i = static_cast<std::size_t>(m * cols + k);
            first[at] = x[i];
            sums[at] += mean ? x[i] / p.counts[at / static_cast<std::size_t>(cols)] : x[i];
          }
        }
        for (std::size_t i = 0; i < spread.size(); ++i) {
          const auto j = static_cast<std::size_t>(p.ids[i / static_cast<std::size_t>(cols)]);
          spread[i] = first[j * static_cast<std::size_t>(cols) + i % static_cast<std::size_t>(cols)] / (mean ? p.counts[j] : 1);
          added[i] = spread[i] + r[i];
        }
        const Tensor in = Put(x, dtype, {rows, cols}), residual = Put(r, dtype, {rows, cols}), c = Poisoned(dtype, {rows, cols});
        GatherRows(*stream_, {.map = map, .x = AsMatrix(ConstTensor(in)), .to = AsMatrix(c)});
        // Rows beyond the clusters are left alone: as many as the guards behind a shorter tensor would see.
        const std::string bytes = Bytes(c);
        for (std::size_t i = static_cast<std::size_t>(U * cols * SizeOf(dtype)); i < bytes.size(); ++i) ASSERT_EQ(bytes[i], '\xff') << i;
        const Tensor exact(c.data, dtype, {U, cols});
        EXPECT_EQ(Get(exact), first);
        for (const DType to_dtype : {dtype, ArithmeticDType(dtype)}) {
          const Tensor to = Poisoned(to_dtype, {U, cols});
          SegmentSum(*stream_, {.map = map, .dy = AsMatrix(ConstTensor(in)), .to = AsMatrix(to), .mean = mean});
          ExpectNear("sums", to, sums, {.of_largest = 1e-5});
        }
        const Tensor y = Poisoned(dtype, {rows, cols}), z = Poisoned(dtype, {rows, cols});
        ScatterRows(*stream_, {.map = map, .c = AsMatrix(ConstTensor(exact)), .y = AsMatrix(y), .mean = mean});
        ExpectNear("scattered", y, spread, {.of_largest = 1e-6});
        ScatterRows(
            *stream_,
            {.map = map, .c = AsMatrix(ConstTensor(exact)), .y = AsMatrix(z), .mean = mean, .residual = AsMatrix(ConstTensor(residual))});
        ExpectNear("scattered and added", z, added, {.of_largest = 1e-6});
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(ReuseTest, CountsAddUp) {
  const IndexMap map = Put(PartitionOf(65, 9));
  const Tensor meter = Put({3, 0.5}, DType::kF64, {2}), measures = Put(Values(kReuseMeasures, 1), DType::kF64, {kReuseMeasures});
  CountReuseArgs args{.map = map, .measures = static_cast<ReuseMeasures*>(measures.data)};
  CountReuse(*stream_, args);
  args.meter = static_cast<const ReuseMeter*>(meter.data);
  CountReuse(*stream_, args);
  const double U = static_cast<double>(PartitionOf(65, 9).size());
  EXPECT_EQ(Get(measures), (Values{131, 1 + 2 * U, 4, 1.5, 1, 1, 1, 1}));
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ReuseTest);

}  // namespace
}  // namespace lycia
