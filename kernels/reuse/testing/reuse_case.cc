#include "kernels/reuse/testing/reuse_case.h"

#include <algorithm>
#include <cstring>

#include "gtest/gtest.h"
#include "runtime/core/philox.h"

namespace lycia::testing {

std::vector<std::int64_t> RepeatedOrder(std::int64_t rows, std::int64_t distinct) {
  const RandomStream random(7, "order", 0);
  std::vector<std::int64_t> order;
  for (std::int64_t m = 0; m < rows; ++m) {
    order.push_back(m < distinct ? m : static_cast<std::int64_t>(random.Bits(static_cast<std::uint64_t>(m))) % distinct);
  }
  for (std::int64_t m = rows - 1; m > 0; --m) {
    std::swap(order[static_cast<std::size_t>(m)],
              order[random.Bits(static_cast<std::uint64_t>(rows + m)) % static_cast<std::size_t>(m + 1)]);
  }
  return order;
}

std::vector<double> RepeatedRows(std::int64_t rows, std::int64_t cols, std::int64_t distinct, std::string_view name) {
  const std::vector<double> values = RandomValues(distinct * cols, name);
  std::vector<double> repeated;
  for (const std::int64_t row : RepeatedOrder(rows, distinct)) {
    repeated.insert(repeated.end(), values.begin() + row * cols, values.begin() + (row + 1) * cols);
  }
  return repeated;
}

TestMap::TestMap(std::int64_t extent, MapDim dim, MapKind kind)
    : memory_(Workspace(IndexMapBytes(extent))), map_(IndexMapIn(memory_.tensor().data, dim, kind, extent)) {}

TestTensor Workspace(std::int64_t bytes) {
  TestTensor memory(DType::kU8, {bytes});
  std::memset(memory.tensor().data, 0x7B, static_cast<std::size_t>(bytes));  // as integers far too large, as f64 too
  return memory;
}

std::vector<std::int32_t> IdsByPairs(std::int64_t rows, const std::function<bool(std::int64_t, std::int64_t)>& like) {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> first;
  for (std::int64_t m = 0; m < rows; ++m) {
    std::size_t j = 0;
    while (j < first.size() && !like(m, first[j])) ++j;
    if (j == first.size()) first.push_back(m);
    ids.push_back(static_cast<std::int32_t>(j));
  }
  return ids;
}

void ExpectPartition(const IndexMap& map, const std::vector<std::int32_t>& ids) {
  ASSERT_EQ(static_cast<std::int64_t>(ids.size()), map.extent);
  const std::int32_t clusters = ids.empty() ? 0 : *std::max_element(ids.begin(), ids.end()) + 1;
  ASSERT_EQ(*map.size, clusters);
  EXPECT_EQ(std::vector<std::int32_t>(map.ids, map.ids + map.extent), ids);
  std::vector<std::vector<std::int32_t>> members(static_cast<std::size_t>(clusters));
  for (std::size_t m = 0; m < ids.size(); ++m) members[static_cast<std::size_t>(ids[m])].push_back(static_cast<std::int32_t>(m));
  std::int32_t at = 0;
  for (std::int32_t j = 0; j < clusters; ++j) {
    const auto& of_cluster = members[static_cast<std::size_t>(j)];
    EXPECT_EQ(map.representatives[j], of_cluster[0]);
    ASSERT_EQ(map.counts[j], static_cast<std::int32_t>(of_cluster.size()));
    ASSERT_EQ(map.offsets[j], at);
    EXPECT_EQ(std::vector<std::int32_t>(map.members + at, map.members + at + map.counts[j]), of_cluster);
    at += map.counts[j];
  }
  EXPECT_EQ(map.offsets[clusters], at);
}

void BuildExact(Stream& stream, const ConstMatrix& rows, const TestMap& map) {
  const TestTensor workspace = Workspace(BuildIndexMapBytes({}, rows.dtype, rows.rows));
  BuildIndexMap(stream, {.rows = rows, .map = *map, .workspace = workspace.tensor().data});
}

}  // namespace lycia::testing
