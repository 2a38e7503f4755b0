// A checkpoint has no layout: saved on one, loaded and saved again on another, every tensor has the same bits, optimizer states included.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/io/temp_directory.h"
#include "tests/layouts/checkpoint_run.h"
#include "tests/layouts/layout_run.h"

namespace lycia {
namespace {

using layouts::Layout;
using layouts::CheckpointBytes;
using layouts::Differences;
using layouts::LoadAndSave;
using layouts::ReadAll;
using layouts::TrainAndSave;

std::vector<Layout> Layouts(bool tied) {
  std::vector<Layout> all = {
      {.schedule = "1f1b", .stages = 1, .micro_batches = 4},
      {.schedule = "chimera", .stages = 4, .micro_batches = 4},
      {.schedule = "1f1b", .stages = 2, .data = 2, .micro_batches = 2},
      {.schedule = "chimera", .stages = 4, .data = 2, .micro_batches = 2, .pipes = 4},
      {.schedule = "zb-v", .stages = 2, .micro_batches = 4},
      {.schedule = "dualpipe", .stages = 2, .micro_batches = 4},
      {.schedule = "gpipe", .micro_batches = 2, .samples = 2, .x = 2, .z = 2},
      {.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .y = 2},
      {.schedule = "1f1b", .stages = 2, .micro_batches = 2, .samples = 2, .y = 2, .z = 2, .weights_each_step = true},
  };
  for (Layout& layout : all) {
    layout.tied = tied;
    layout.precision = DType::kF32;
  }
  return all;
}

class LayoutCheckpoint : public testing::TestWithParam<bool> {};

TEST_P(LayoutCheckpoint, KeepsEveryBitFromAnyLayoutToAnyOther) {
  const bool tied = GetParam();
  const std::vector<Layout> all = Layouts(tied);
  const TempDirectory folder;
  for (std::size_t from = 0; from < all.size(); ++from) {
    const std::string saved = folder / StrCat("from", from);
    const Status trained = TrainAndSave(all[from], saved);
    ASSERT_TRUE(trained.ok()) << all[from].Name() << ": " << trained;
    const StatusOr<CheckpointBytes> before = ReadAll(saved);
    ASSERT_TRUE(before.ok()) << before.status();
    // Per block two norms of two vectors and four products with biases; two embeddings, a last norm, perhaps a head; each with m and v.
    EXPECT_EQ(before->size(), 3u * (layouts::kBlocks * 12 + 4 + (tied ? 0 : 1)));
    for (const auto& [name, bytes] : *before) {
      EXPECT_NE(bytes, std::vector<char>(bytes.size(), 0)) << name << " of " << all[from].Name() << " is zero and proves nothing";
    }
    for (std::size_t to = 0; to < all.size(); ++to) {
      // Every pair with a tied head; with one of its own, each layout to two others.
      if (!tied && to != (from + 1) % all.size() && to != (from + 4) % all.size()) continue;
      const std::string again = folder / StrCat("from", from, "to", to);
      const Status loaded = LoadAndSave(saved, all[to], again);
      ASSERT_TRUE(loaded.ok()) << all[from].Name() << " to " << all[to].Name() << ": " << loaded;
      const StatusOr<CheckpointBytes> after = ReadAll(again);
      ASSERT_TRUE(after.ok()) << after.status();
      EXPECT_THAT(Differences(*before, *after), testing::IsEmpty()) << all[from].Name() << " to " << all[to].Name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, LayoutCheckpoint, testing::Bool(), [](const auto& info) { return info.param ? "Tied" : "Untied"; });

}  // namespace
}  // namespace lycia
