#include "launch/data/keyed_permutation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

std::vector<std::int64_t> All(std::uint64_t seed, std::uint64_t epoch, std::int64_t size) {
  const KeyedPermutation permutation(RandomStream(seed, "order", epoch), size);
  std::vector<std::int64_t> values;
  for (std::int64_t place = 0; place < size; ++place) values.push_back(permutation(place));
  return values;
}

TEST(KeyedPermutation, IsABijection) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 255, 257, 1000, 1023, 1025, 60000}) {
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::int64_t> values = All(3, epoch, size);
      std::sort(values.begin(), values.end());
      for (std::int64_t i = 0; i < size; ++i) ASSERT_EQ(values[static_cast<std::size_t>(i)], i) << "size " << size;
    }
  }
}

TEST(KeyedPermutation, DependsOnEveryPartOfTheKeyAndOnNothingElse) {
  const auto base = All(1, 0, 100);
  EXPECT_EQ(All(1, 0, 100), base);
  EXPECT_NE(All(1, 1, 100), base);
  EXPECT_NE(All(2, 0, 100), base);
}

TEST(KeyedPermutation, LargeSizesStayInside) {
  const std::int64_t size = (std::int64_t{1} << 40) + 12345;
  const KeyedPermutation permutation(RandomStream(1, "order", 0), size);
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < 2000; ++i) {
    values.push_back(permutation(i));
    values.push_back(permutation(size - 1 - i));
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(std::adjacent_find(values.begin(), values.end()), values.end());
  EXPECT_GE(values.front(), 0);
  EXPECT_LT(values.back(), size);
}

// Over keys, the images of a pair of places are uniform over the n (n - 1) ordered pairs: chi-square at about 6 standard deviations. A
// shuffle by rotation, or one that keeps neighbours together, fails.
TEST(KeyedPermutation, PairsAreUniformOverKeys) {
  for (const std::int64_t size : {3, 5, 7, 11}) {
    for (const auto& [first, second] : {std::pair<std::int64_t, std::int64_t>{0, 1}, {size - 2, size - 1}, {0, size - 1}}) {
      const int keys = 40000;
      std::vector<double> counts(static_cast<std::size_t>(size * size));
      for (int key = 0; key < keys; ++key) {
        const KeyedPermutation permutation(RandomStream(9, "order", static_cast<std::uint64_t>(key)), size);
        ++counts[static_cast<std::size_t>(permutation(first) * size + permutation(second))];
      }
      const double pairs = static_cast<double>(size * (size - 1)), expected = keys / pairs;
      double chi_square = 0;
      for (std::int64_t i = 0; i < size * size; ++i) {
        if (i / size != i % size) chi_square += std::pow(counts[static_cast<std::size_t>(i)] - expected, 2) / expected;
      }
      EXPECT_LT(chi_square, pairs - 1 + 6 * std::sqrt(2 * (pairs - 1))) << "size " << size << ", places " << first << " and " << second;
    }
  }
}

}  // namespace
}  // namespace lycia
