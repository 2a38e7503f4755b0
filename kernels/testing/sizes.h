// Sizes that the kernel tests run over, as data. Dimensions of one case differ pairwise where they can, so that a swapped stride shows.
#ifndef LYCIA_KERNELS_TESTING_SIZES_H_
#define LYCIA_KERNELS_TESTING_SIZES_H_

#include <cstdint>

namespace lycia::testing {

// m, n, k: vectors, odd sizes, one row, one column, empty sums.
struct GemmSize {
  std::int64_t m, n, k;
};
inline constexpr GemmSize kGemmSizes[] = {{1, 1, 1}, {1, 7, 3}, {5, 1, 4}, {2, 3, 1}, {17, 33, 9}, {64, 48, 80}, {63, 65, 67}, {3, 5, 0}};

// Rows of features: shorter than a vector, exactly one, around the widths of the unrolled loops, and long.
struct RowSize {
  std::int64_t rows, features;
};
inline constexpr RowSize kRowSizes[] = {{1, 1}, {3, 2}, {2, 5}, {5, 16}, {7, 17}, {4, 64}, {3, 65}, {130, 48}, {66, 131}, {2, 1025}};

// Lengths of flat arrays.
inline constexpr std::int64_t kLengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 4095, 4096, 4097, 12300};

// samples, queries, keys, heads, key heads, features of a head.
struct AttentionSize {
  std::int64_t B, T, S, H, G, D;
};
inline constexpr AttentionSize kAttentionSizes[] = {
    {1, 1, 1, 1, 1, 1},                            // one of everything
    {2, 3, 3, 1, 1, 5},                            // less than a vector
    {1, 16, 16, 2, 2, 4},                          // one strip
    {2, 17, 17, 3, 3, 8},                          // one strip and a lane
    {1, 64, 64, 2, 1, 16},                         // one tile, shared key head
    {1, 65, 65, 4, 2, 20},                         // one tile and a query; D is no multiple of a vector
    {1, 150, 150, 2, 2, 33}, {2, 5, 80, 3, 1, 7},  // more keys than queries
    {1, 90, 30, 2, 2, 6},                          // more queries than keys
};

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_TESTING_SIZES_H_
