// Checkpoints of grids: what one grid writes, any other and no grid load, bit for bit; and what damaged blocks do.
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/test_grid.h"
#include "launch/checkpoint/test_ranks.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Status SaveOn(const std::string& directory, const TestGrid& grid) {
  TestRun::Options options;
  options.directory = directory;
  options.ranks = grid.ranks();
  options.pieces = [&](int rank) { return PiecesOfRank(TestTensors(), grid, rank); };
  return TestRun(options).Save(3);
}

std::vector<TestGrid> Grids() {
  std::vector<TestGrid> grids = {{1, 1, 1, 1}, {2, 2, 2, 2}, {1, 4, 2, 3}, {5, 1, 2, 4}, {3, 3, 1, 5}};
  for (std::uint64_t seed = 10; seed < 13; ++seed) grids.push_back(RandomTestGrid(seed, 3));
  return grids;
}

TEST(GridCheckpointTest, EveryGridLoadsEveryOther) {
  for (const TestGrid& writers : Grids()) {
    TempDirectory dir;
    const Status saved = SaveOn(dir.path(), writers);
    ASSERT_TRUE(saved.ok()) << writers.ToString() << ": " << saved;
    const auto checkpoint = Checkpoint::Open(CheckpointPath(dir.path(), 3), Verify::kSizes);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const TestGrid& readers : Grids()) {
      for (int rank = 0; rank < readers.ranks(); ++rank) {
        EXPECT_EQ(LoadDifference(*checkpoint, TestRank(PiecesOfRank(TestTensors(), readers, rank))), "")
            << writers.ToString() << " to rank " << rank << " of " << readers.ToString();
      }
    }
    for (int readers : {1, 3}) EXPECT_EQ(LoadDifference(*checkpoint, readers, 7), "") << writers.ToString() << " to no grid";
    EXPECT_TRUE(Checkpoint::Open(CheckpointPath(dir.path(), 3), Verify::kChecksums).ok());
  }
}

TEST(GridCheckpointTest, WhatNoGridWroteEveryGridLoads) {
  TempDirectory dir;
  TestRun run({dir.path(), "run", 3, 2, 9});
  ASSERT_TRUE(run.Save(3).ok());
  const auto checkpoint = Checkpoint::Open(CheckpointPath(dir.path(), 3), Verify::kSizes);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (const TestGrid& readers : Grids()) {
    for (int rank = 0; rank < readers.ranks(); ++rank) {
      EXPECT_EQ(LoadDifference(*checkpoint, TestRank(PiecesOfRank(TestTensors(), readers, rank))), "") << readers.ToString();
    }
  }
}

// A matrix large enough for several windows of the reader, in every direction.
TEST(GridCheckpointTest, WindowsMeet) {
  constexpr std::int64_t kRows = 700, kColumns = 1000;
  const std::vector<TestTensor> tensors = {{"w", {DType::kF64, {kRows, kColumns}}}};
  for (const auto& [from, to] :
       {std::pair(TestGrid{2, 3, 1, 1}, TestGrid{3, 1, 2, 3}), std::pair(TestGrid{1, 1, 1, 2}, TestGrid{2, 2, 1, 0})}) {
    TempDirectory dir;
    TestRun::Options options;
    options.directory = dir.path();
    options.ranks = from.ranks();
    options.pieces = [&, &grid = from](int rank) { return PiecesOfRank(tensors, grid, rank); };
    ASSERT_TRUE(TestRun(options).Save(3).ok());
    const auto checkpoint = Checkpoint::Open(CheckpointPath(dir.path(), 3), Verify::kSizes);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (int rank = 0; rank < to.ranks(); ++rank) EXPECT_EQ(LoadDifference(*checkpoint, TestRank(PiecesOfRank(tensors, to, rank))), "");
    TestRank truth(tensors, {0, 1, 0});
    truth.Fill(3);
    const double* whole = static_cast<const double*>(truth.pieces()[0].data);
    for (std::int64_t begin = 0; begin < kRows * kColumns; begin += 155'003) {
      for (std::int64_t end = begin + 1; end <= kRows * kColumns; end += 127'001) {
        std::vector<double> read(static_cast<std::size_t>(end - begin));
        ASSERT_TRUE(checkpoint->ReadRange("w", begin, end, read.data()).ok());
        ASSERT_EQ(std::memcmp(read.data(), whole + begin, read.size() * 8), 0) << begin << " to " << end;
      }
    }
  }
}

TEST(GridCheckpointTest, BlocksThatAreFlatRangesNeedNoNewFormat) {
  TempDirectory dir;
  const std::vector<TestTensor> tensors = {{"w", {DType::kF32, {6, 4}}}, {"b", {DType::kF32, {6}}}};
  TestRun::Options options;
  options.directory = dir.path();
  options.ranks = 2;
  options.pieces = [&](int rank) {
    return std::vector<Piece>{{"w", DType::kF32, {6, 4}, 0, 12, nullptr, {4, {{3 * rank, 3}}, {{0, 4}}}},
                              {"b", DType::kF32, {6}, 1 - rank, 3, nullptr, {6, {{0, 1}}, {{3 * rank, 3}}}},
                              {"b", DType::kF32, {6}, 0, 1 - rank, nullptr, {6, {{0, 1}}, {{0, 1}}}}};
  };
  const Status saved = TestRun(options).Save(3);
  ASSERT_TRUE(saved.ok()) << saved;
  const std::string text = *ReadFile(CheckpointPath(dir.path(), 3) + "/manifest.json", 1 << 20);
  EXPECT_THAT(text, AllOf(HasSubstr("\"version\": 1,"), HasSubstr("\"range\": [12, 24], \"key\": \"w[12:24]\"")));
  const auto checkpoint = Checkpoint::Open(CheckpointPath(dir.path(), 3), Verify::kChecksums);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(LoadDifference(*checkpoint, TestRank(tensors, {0, 1, 0})), "");
}

// One 3 x 3 x 2 checkpoint whose manifest is rewritten, with a seal that fits.
class DamagedBlocksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const TestGrid grid{3, 3, 2, 5};
    ASSERT_TRUE(SaveOn(dir_.path(), grid).ok());
    text_ = *ReadFile(path_, 1 << 24);
    manifest_ = *ParseManifest(text_);
    for (ShardFile& shard : manifest_.shards) {
      for (PieceRecord& piece : shard.pieces) {
        const std::vector<ElementRun> runs = Runs(piece.block, piece.begin, piece.end);
        if (piece.block.rows.empty() || runs.empty() || runs[0].tensor < 0) continue;
        shard_ = &shard;
        piece_ = &piece;
        first_ = runs[0].tensor;
      }
    }
    ASSERT_NE(piece_, nullptr);
  }
  Status Reopened() {
    EXPECT_TRUE(WriteFileAtomically(path_, ManifestText(manifest_)).ok());
    return Checkpoint::Open(CheckpointPath(dir_.path(), 3), Verify::kSizes).status();
  }
  void ExpectDamage(const std::string& words) {
    const Status status = Reopened();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path_), HasSubstr("tensor " + piece_->name + ": "), HasSubstr(words)));
  }

  TempDirectory dir_;
  const std::string path_ = CheckpointPath(dir_.path(), 3) + "/manifest.json";
  std::string text_;
  Manifest manifest_;
  ShardFile* shard_ = nullptr;
  PieceRecord* piece_ = nullptr;
  std::int64_t first_ = 0;  // element of the piece
};

TEST_F(DamagedBlocksTest, UntouchedItOpens) {
  EXPECT_EQ(ManifestText(manifest_), text_);
  EXPECT_THAT(text_, HasSubstr("\"version\": 2,"));
  EXPECT_TRUE(Reopened().ok());
}

TEST_F(DamagedBlocksTest, MissingElementsAreNamed) {
  ++piece_->begin;
  ExpectDamage(StrCat("elements ", first_, " to ", first_ + 1, " are missing"));
  const std::string name = piece_->name;
  shard_->pieces.erase(shard_->pieces.begin() + (piece_ - shard_->pieces.data()));
  const Status status = Reopened();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(name), HasSubstr("are missing")));
}

TEST_F(DamagedBlocksTest, OverlapIsNamed) {
  PieceRecord again = *piece_;
  again.end = again.begin + 1;
  manifest_.shards[0].pieces.push_back(again);
  piece_ = &manifest_.shards[0].pieces.back();
  ExpectDamage(StrCat("elements ", first_, " to ", first_ + 1, " are stored twice"));
}

TEST_F(DamagedBlocksTest, RangesOutsideTheTensorAreNamed) {
  const Block block = piece_->block;
  piece_->block.rows[0].count += 1000;
  ExpectDamage("are not within");
  piece_->block = block;
  piece_->block.tensor_columns += 1;
  ExpectDamage("");
  piece_->block = block;
  piece_->end = block.elements() + 1;
  ExpectDamage(StrCat("leaves its ", block.elements(), " elements"));
}

TEST_F(DamagedBlocksTest, ABlockThatFitsNoPieceInTheFileIsRefused) {
  const std::string name = shard_->file;
  PieceRecord& piece = *piece_;
  std::swap(piece.key, shard_->pieces[piece_ == &shard_->pieces[0] ? 1 : 0].key);
  const Status status = Reopened();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(name));
}

TEST_F(DamagedBlocksTest, AFlippedByteOfAPieceIsFoundByWhoReadsIt) {
  const std::string shard = JoinPath(CheckpointPath(dir_.path(), 3), shard_->file);
  std::string bytes = *ReadFile(shard, 1 << 24);
  const auto file = SafetensorsFile::Open(shard);
  bytes[static_cast<std::size_t>(file->Find(piece_->key)->offset)] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(shard, bytes).ok());
  const auto checkpoint = Checkpoint::Open(CheckpointPath(dir_.path(), 3), Verify::kSizes);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::vector<char> one(16);
  const Status status = checkpoint->ReadRange(piece_->name, first_, first_ + 1, one.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(shard), HasSubstr(piece_->key), HasSubstr("checksum")));
}

TEST_F(DamagedBlocksTest, PiecesThatFitNoTensorAreNotLoaded) {
  const auto checkpoint = Checkpoint::Open(CheckpointPath(dir_.path(), 3), Verify::kSizes);
  float data[64] = {};
  const auto load = [&](std::int64_t end, const Block& block) {
    const Piece piece{"weight/wte.weight", DType::kF32, {17, 8}, 0, end, data, block};
    return std::string(checkpoint->Load({piece}).message());
  };
  EXPECT_EQ(load(6, {8, {{15, 2}}, {{2, 3}}}), "");
  EXPECT_THAT(load(7, {8, {{15, 2}}, {{2, 3}}}), HasSubstr("elements 0 to 7 are not within a block of 2 x 3 of weight/wte.weight"));
  EXPECT_THAT(load(6, {8, {{16, 2}}, {{2, 3}}}), AllOf(HasSubstr("weight/wte.weight"), HasSubstr("row 16 + 2 are not within 17")));
  EXPECT_THAT(load(6, {8, {{0, 2}}, {{2, 2}, {3, 1}}}), HasSubstr("names column 3 twice"));
}

}  // namespace
}  // namespace lycia
