#include "kernels/gemm/blocking.h"

#include <random>

#include "gtest/gtest.h"

namespace lycia::cpu {
namespace {

std::vector<const MicroKernel*> AllKernels() {
  return {&PortableKernel(), &Avx2Kernel(), &Avx512Kernel(), &Avx512Bf16Kernel(), &AmxKernel()};
}

TEST(Blocking, FitsTheWorkspaceAndCoversTheThreads) {
  std::mt19937_64 random(3);
  const auto size = [&] { return static_cast<std::int64_t>(1) << (random() % 17); };
  for (int i = 0; i < 4000; ++i) {
    for (const MicroKernel* kernel : AllKernels()) {
      GemmShape shape = {.m = size() + static_cast<std::int64_t>(random() % 5),
                         .n = size() + static_cast<std::int64_t>(random() % 5),
                         .k = size() + static_cast<std::int64_t>(random() % 5) - 1,
                         .packed_b = random() % 2 == 0,
                         .sums_in_c = random() % 2 == 0,
                         .threads = static_cast<int>(random() % 8 + 1)};
      shape.b_by_panel = !shape.packed_b && random() % 2 == 0;
      const std::int64_t workspace = kLeastGemmWorkspace << (random() % 5);
      const GemmBlocking b = ChooseBlocking(*kernel, shape, workspace);
      SCOPED_TRACE(::testing::Message() << kernel->name << " m " << shape.m << " n " << shape.n << " k " << shape.k << " workspace "
                                        << workspace << " packed " << shape.packed_b << " in c " << shape.sums_in_c << " by panel "
                                        << shape.b_by_panel);
      ASSERT_EQ(b.row_parts * b.col_parts, shape.threads);
      ASSERT_LE(b.a_bytes + b.b_bytes + b.sum_bytes, workspace);
      if (!shape.packed_b) {
        ASSERT_GE(b.b_bytes, kernel->cols * b.block_words * kWordBytes);
      }
      ASSERT_EQ(b.words % kernel->word_unit, 0);
      ASSERT_EQ(b.block_words % kernel->word_unit, 0);
      ASSERT_LE(b.block_words, kernel->block_words);
      ASSERT_GE(b.words * (kernel->pairs ? 2 : 1), shape.k);
      ASSERT_EQ(b.block_rows % kernel->rows, 0);
      ASSERT_EQ(b.block_cols % kernel->cols, 0);
      ASSERT_GE(b.block_rows, 1);
      ASSERT_GE(b.block_cols, 1);
    }
  }
}

// Room for what tiles read in place: addresses of every piece of the depth, and, where they load groups of rows, a copy of each row.
TEST(Blocking, HasRoomForAddressesAndCopies) {
  std::mt19937_64 random(4);
  const auto size = [&] { return static_cast<std::int64_t>(1) << (random() % 14); };
  for (int i = 0; i < 4000; ++i) {
    for (const MicroKernel* kernel : AllKernels()) {
      const std::int64_t run_words = kernel->run_unit * (8 + static_cast<std::int64_t>(random() % 200)), runs = size() % 50 + 1;
      const std::int64_t elements = kernel->pairs ? 2 : 1;
      const GemmShape shape = {.m = size() + static_cast<std::int64_t>(random() % 5),
                               .n = size() + static_cast<std::int64_t>(random() % 5),
                               .k = runs * run_words * elements,
                               .packed_b = random() % 2 == 0,
                               .sums_in_c = random() % 2 == 0,
                               .threads = static_cast<int>(random() % 8 + 1),
                               .words = RoundUp(runs * run_words, kernel->word_unit),
                               .run_words = run_words,
                               .a_in_place = true};
      const std::int64_t workspace = kLeastGemmWorkspace << (random() % 5);
      const GemmBlocking b = ChooseBlocking(*kernel, shape, workspace);
      SCOPED_TRACE(::testing::Message() << kernel->name << " m " << shape.m << " n " << shape.n << " runs " << runs << " of " << run_words
                                        << " words, workspace " << workspace);
      ASSERT_LE(b.a_bytes + b.b_bytes + b.sum_bytes, workspace);
      const std::int64_t words = b.whole_a ? b.words : b.block_words;
      const std::int64_t most_pieces = (words + run_words - 1) / run_words + (b.whole_a ? 0 : 1);
      const bool groups = kernel->group_rows > 0;
      const std::int64_t table = most_pieces * (groups ? kernel->rows / kernel->group_rows * 2 : kernel->rows);
      ASSERT_GE(b.a_addresses, table);
      const std::int64_t room = groups ? kernel->rows * words * kWordBytes : 0;
      ASSERT_GE(b.a_panel_bytes, RoundUp(b.a_addresses * kAddressBytes, 64) + room);
      ASSERT_EQ(b.a_bytes, b.block_rows / kernel->rows * b.a_panel_bytes);
    }
  }
}

// The cut along the depth decides the bits of a sum: rows, columns, threads, packing and memory must not move it.
TEST(Blocking, DepthIsCutByTheDepthAlone) {
  for (const MicroKernel* kernel : AllKernels()) {
    for (const std::int64_t k : {1, 383, 384, 385, 768, 1000, 3072}) {
      const GemmBlocking b = ChooseBlocking(*kernel, {.m = 1, .n = 1, .k = k}, kLeastGemmWorkspace);
      for (const std::int64_t m : {1, 100, 5000}) {
        for (const bool flag : {false, true}) {
          const GemmBlocking other = ChooseBlocking(
              *kernel, {.m = m, .n = m + 7, .k = k, .packed_b = flag, .sums_in_c = flag, .threads = 3, .b_by_panel = !flag}, 6 << 20);
          EXPECT_EQ(other.words, b.words);
          EXPECT_EQ(other.block_words, b.block_words);
        }
      }
    }
  }
}

// A tall product is cut by rows and a wide one by columns, so that little is packed twice.
TEST(Blocking, ThreadsCutTheLongerSide) {
  const auto grid = [](std::int64_t m, std::int64_t n) {
    const GemmBlocking b =
        ChooseBlocking(Avx512Kernel(), {.m = m, .n = n, .k = 768, .packed_b = true, .sums_in_c = true, .threads = 2}, 6 << 20);
    return std::pair(b.row_parts, b.col_parts);
  };
  EXPECT_EQ(grid(256, 50257), std::pair(1, 2));
  EXPECT_EQ(grid(16384, 768), std::pair(2, 1));
}

}  // namespace
}  // namespace lycia::cpu
