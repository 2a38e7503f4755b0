// Rows that repeat, and a map with its memory, for tests.
#ifndef LYCIA_KERNELS_REUSE_TESTING_REUSE_CASE_H_
#define LYCIA_KERNELS_REUSE_TESTING_REUSE_CASE_H_

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "kernels/reuse/build_index_map.h"
#include "kernels/testing/test_tensor.h"

namespace lycia::testing {

// [rows, cols] of `distinct` different rows, each at least once, in an order that is a pure function of the sizes.
std::vector<double> RepeatedRows(std::int64_t rows, std::int64_t cols, std::int64_t distinct, std::string_view name);
// Which of the distinct rows each is.
std::vector<std::int64_t> RepeatedOrder(std::int64_t rows, std::int64_t distinct);

// A map and its memory, filled with what would show if it were read.
class TestMap {
 public:
  explicit TestMap(std::int64_t extent, MapDim dim = MapDim::kM, MapKind kind = MapKind::kPartition);
  const IndexMap& operator*() const { return map_; }
  const IndexMap* operator->() const { return &map_; }
  std::int64_t size() const { return *map_.size; }
  std::vector<std::int32_t> ids() const { return {map_.ids, map_.ids + map_.extent}; }
  std::vector<std::int32_t> representatives() const { return {map_.representatives, map_.representatives + *map_.size}; }

 private:
  TestTensor memory_;
  IndexMap map_;
};

// Memory of so many bytes, poisoned.
TestTensor Workspace(std::int64_t bytes);

// The map of rows 0 .. rows - 1 by pairs: like(m, first row of a cluster), clusters in the order of their first rows.
std::vector<std::int32_t> IdsByPairs(std::int64_t rows, const std::function<bool(std::int64_t, std::int64_t)>& like);
// Everything else in the map follows from its ids; a failure of the test where it does not.
void ExpectPartition(const IndexMap& map, const std::vector<std::int32_t>& ids);

// The exact partition of a matrix [rows, cols].
void BuildExact(Stream& stream, const ConstMatrix& rows, const TestMap& map);

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_REUSE_TESTING_REUSE_CASE_H_
