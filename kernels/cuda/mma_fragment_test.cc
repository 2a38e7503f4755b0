#include "kernels/cuda/mma_fragment.h"

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/shared_tile.h"

namespace lycia::cuda {
namespace {

// The PTX ISA's own words, "Matrix fragments for mma.m16n8k16 with floating point type": groupID = lane >> 2, threadID_in_group = lane % 4.
MatrixPlace IsaA(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {(0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8, in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
MatrixPlace IsaB(int lane, int i) { return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2}; }
MatrixPlace IsaC(int lane, int i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }

TEST(MmaFragment, IsTheIsasAndBack) {
  std::set<std::pair<int, int>> a, b, sums;
  for (int lane = 0; lane < kMmaLanes; ++lane) {
    for (int e = 0; e < 8; ++e) {
      const MatrixPlace place = PlaceInA({lane, e});
      EXPECT_EQ(place, IsaA(lane, e)) << lane << ' ' << e;
      EXPECT_EQ(HolderInA(place), (FragmentPlace{lane, e}));
      a.insert({place.row, place.column});
    }
    for (int e = 0; e < 4; ++e) {
      const MatrixPlace place = PlaceInB({lane, e}), sum = PlaceInSums({lane, e});
      EXPECT_EQ(place, IsaB(lane, e)) << lane << ' ' << e;
      EXPECT_EQ(HolderInB(place), (FragmentPlace{lane, e}));
      EXPECT_EQ(sum, IsaC(lane, e)) << lane << ' ' << e;
      b.insert({place.row, place.column});
      sums.insert({sum.row, sum.column});
    }
  }
  EXPECT_EQ(a.size(), 16u * 16u);
  EXPECT_EQ(b.size(), 16u * 8u);
  EXPECT_EQ(sums.size(), 16u * 8u);
}

// Lanes that gather the elements that the maps name make the whole product.
TEST(MmaFragment, LanesTogetherMultiply) {
  const auto left = [](int m, int k) { return 3 * m - 5 * k + m * k % 7; };
  const auto right = [](int k, int n) { return 2 * n + k * k % 11 - 4; };
  int a[kMmaLanes][8], b[kMmaLanes][4], product[kMmaRows][kMmaColumns] = {};
  for (int lane = 0; lane < kMmaLanes; ++lane) {
    for (int e = 0; e < 8; ++e) a[lane][e] = left(PlaceInA({lane, e}).row, PlaceInA({lane, e}).column);
    for (int e = 0; e < 4; ++e) b[lane][e] = right(PlaceInB({lane, e}).row, PlaceInB({lane, e}).column);
  }
  for (int lane = 0; lane < kMmaLanes; ++lane) {
    for (int e = 0; e < 4; ++e) {
      const MatrixPlace place = PlaceInSums({lane, e});
      for (int k = 0; k < kMmaDepth; ++k) {
        const FragmentPlace of_a = HolderInA({place.row, k}), of_b = HolderInB({k, place.column});
        product[place.row][place.column] += a[of_a.lane][of_a.element] * b[of_b.lane][of_b.element];
      }
    }
  }
  for (int m = 0; m < kMmaRows; ++m) {
    for (int n = 0; n < kMmaColumns; ++n) {
      int expected = 0;
      for (int k = 0; k < kMmaDepth; ++k) expected += left(m, k) * right(k, n);
      EXPECT_EQ(product[m][n], expected) << m << ' ' << n;
    }
  }
}

// Sums of two neighbours become the A of the next product: element e of A is element e % 4 of neighbour e / 4.
TEST(MmaFragment, SumsAreOperands) {
  for (int lane = 0; lane < kMmaLanes; ++lane) {
    for (int e = 0; e < 8; ++e) {
      const MatrixPlace sum = PlaceInSums({lane, e % 4});
      EXPECT_EQ(PlaceInA({lane, e}), (MatrixPlace{sum.row, sum.column + e / 4 * kMmaColumns})) << lane << ' ' << e;
    }
  }
}

// What lane `to` receives of matrix m in ldmatrix, as a place of the tile: by the ISA row to / 4, elements 2 (to % 4) and the next, of the
// rows that lanes 8 m ... 8 m + 7 point to; transposed, with row and element exchanged.
template <typename Source>
MatrixPlace Received(Source source, bool transposed, int to, int matrix, int half) {
  const int major = to / 4, minor = to % 4 * 2 + half;
  const MatrixPlace row = source(8 * matrix + (transposed ? minor : major));
  return {row.row, row.column + (transposed ? major : minor)};
}

TEST(MmaFragment, SourcesGiveTheRegisters) {
  for (int lane = 0; lane < kMmaLanes; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int half = 0; half < 2; ++half) {
        const MatrixPlace a = IsaA(lane, 2 * matrix + half);
        EXPECT_EQ(Received(SourceOfA, false, lane, matrix, half), a);
        EXPECT_EQ(Received(SourceOfATransposed, true, lane, matrix, half), (MatrixPlace{a.column, a.row}));
        // Matrices 0 and 1 are the first B, 2 and 3 that of the next eight columns.
        const MatrixPlace b = IsaB(lane, matrix % 2 * 2 + half);
        const int column = b.column + matrix / 2 * kMmaColumns;
        EXPECT_EQ(Received(SourceOfB, false, lane, matrix, half), (MatrixPlace{column, b.row}));
        EXPECT_EQ(Received(SourceOfBTransposed, true, lane, matrix, half), (MatrixPlace{b.row, column}));
      }
    }
  }
}

// Each matrix of ldmatrix is eight pieces of 16 bytes: out of a swizzled tile they come from all 32 banks.
TEST(MmaFragment, TilesAreReadWithoutConflicts) {
  for (MatrixPlace (*source)(int) : {SourceOfA, SourceOfATransposed, SourceOfB, SourceOfBTransposed}) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::set<int> banks;
      for (int lane = 8 * matrix; lane < 8 * matrix + 8; ++lane) {
        for (int word = 0; word < 4; ++word)
          banks.insert((TileOffset(64, 16 + source(lane).row, 48 + source(lane).column) / 4 + word) % 32);
      }
      EXPECT_EQ(banks.size(), 32u);
    }
  }
}

}  // namespace
}  // namespace lycia::cuda
