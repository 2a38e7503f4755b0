// Round trips: any split saves, any other loads, bit for bit; and what the writer promises about folders, failures and memory.
#include "launch/checkpoint/checkpoint.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/prune.h"
#include "launch/checkpoint/test_ranks.h"
#include "launch/checkpoint/writer.h"
#include "runtime/device/testing/count_allocations.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::lycia::testing::AllocationsOfThisThread;
using ::testing::AllOf;
using ::testing::HasSubstr;

TestRun::Options RunIn(const TempDirectory& dir, int ranks = 1) {
  TestRun::Options options;
  options.directory = dir / "checkpoints";
  options.ranks = ranks;
  return options;
}

TEST(CheckpointTest, EverySplitLoadsEveryOther) {
  for (int writers = 1; writers <= 5; ++writers) {
    TempDirectory dir;
    TestRun::Options options = RunIn(dir, writers);
    options.split = static_cast<std::uint64_t>(writers);
    TestRun run(options);
    const Status saved = run.Save(20);
    ASSERT_TRUE(saved.ok()) << saved;
    const auto checkpoint = Checkpoint::Open(dir / "checkpoints/step_00000020", Verify::kChecksums);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (int readers = 1; readers <= 5; ++readers) {
      EXPECT_EQ(LoadDifference(*checkpoint, readers, 100 + static_cast<std::uint64_t>(readers)), "") << writers << " to " << readers;
    }
  }
}

TEST(CheckpointTest, AnyRangeOfATensorReads) {
  TempDirectory dir;
  TestRun run(RunIn(dir, 3));
  ASSERT_TRUE(run.Save(1).ok());
  const auto checkpoint = Checkpoint::Open(CheckpointPath(dir / "checkpoints", 1), Verify::kSizes);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  TestRank truth(TestTensors(), {0, 1, 0});
  truth.Fill(1);
  const Piece& whole = truth.pieces()[0];
  const std::int64_t n = whole.end;
  for (std::int64_t begin = 0; begin <= n; begin += 13) {
    for (std::int64_t end = begin; end <= n; end += 7) {
      std::vector<float> to(static_cast<std::size_t>(end - begin) + 1, 42.0f);
      ASSERT_TRUE(checkpoint->ReadRange(whole.name, begin, end, to.data()).ok());
      ASSERT_EQ(std::memcmp(to.data(), static_cast<const float*>(whole.data) + begin, static_cast<std::size_t>(end - begin) * 4), 0);
      ASSERT_EQ(to.back(), 42.0f);  // nothing beyond the range is touched
    }
  }
  EXPECT_EQ(checkpoint->ReadRange("weight/none", 0, 1, nullptr).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(checkpoint->ReadRange(whole.name, 0, n + 1, nullptr).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(checkpoint->ReadRange(whole.name, -1, 1, nullptr).code(), absl::StatusCode::kInvalidArgument);
  Piece other = whole;
  other.dtype = DType::kI32;
  EXPECT_THAT(std::string(checkpoint->Load({other}).message()), AllOf(HasSubstr("f32[17, 8]"), HasSubstr("i32[17, 8]")));
}

TEST(CheckpointTest, OneRanksShardIsAPlainModelFile) {
  TempDirectory dir;
  TestRun run(RunIn(dir));
  ASSERT_TRUE(run.Save(1).ok());
  EXPECT_EQ(NamesIn(dir / "checkpoints/step_00000001"), (std::vector<std::string>{"manifest.json", "shard-00000-of-00001.safetensors"}));
  const auto file = SafetensorsFile::Open(dir / "checkpoints/step_00000001/shard-00000-of-00001.safetensors");
  ASSERT_TRUE(file.ok());
  for (const TestTensor& tensor : TestTensors()) EXPECT_EQ(file->Find(tensor.name)->shape, tensor.spec.shape) << tensor.name;
}

TEST(CheckpointTest, KeepsTheNewestAndNothingOfOthers) {
  TempDirectory dir;
  TestRun::Options options = RunIn(dir, 2);
  options.keep = 3;
  TestRun run(options);
  for (std::int64_t step : {1, 2, 3}) ASSERT_TRUE(run.Save(step).ok());
  ASSERT_TRUE(CreateDirectories(dir / "checkpoints/step_1").ok());
  ASSERT_TRUE(CreateDirectories(dir / "checkpoints/step_00000000.mine").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "checkpoints/step_00000002/notes.txt", "mine").ok());
  ASSERT_TRUE(CreateDirectories(dir / "checkpoints/step_00000099").ok());  // of another life; later than what is saved
  for (std::int64_t step : {4, 5, 6}) ASSERT_TRUE(run.Save(step).ok());
  EXPECT_EQ(NamesIn(dir / "checkpoints"),
            (std::vector<std::string>{"step_00000000.mine", "step_00000002", "step_00000004", "step_00000005", "step_00000006",
                                      "step_00000099", "step_1"}));
}

TEST(CheckpointTest, DamagedOnesDoNotCountAsKept) {
  TempDirectory dir;
  TestRun run(RunIn(dir));
  for (std::int64_t step : {1, 2}) ASSERT_TRUE(run.Save(step).ok());
  ASSERT_TRUE(RemoveTree(dir / "checkpoints/step_00000002", "shard-00000-of-00001.safetensors").ok());
  ASSERT_TRUE(run.Save(3).ok());  // keep = 2: steps 3 and 1
  EXPECT_EQ(NamesIn(dir / "checkpoints"), (std::vector<std::string>{"step_00000001", "step_00000002", "step_00000003"}));
}

TEST(CheckpointTest, SavingAStepAgainReplacesIt) {
  TempDirectory dir;
  TestRun run(RunIn(dir, 2));
  for (std::int64_t step : {1, 2}) ASSERT_TRUE(run.Save(step).ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "checkpoints/step_00000002/manifest.json", "{}").ok());
  ASSERT_TRUE(run.Save(2).ok());
  EXPECT_EQ(NamesIn(dir / "checkpoints"), (std::vector<std::string>{"step_00000001", "step_00000002"}));
  std::vector<std::string> warnings;
  const auto newest = OpenNewestCheckpoint(dir / "checkpoints", &warnings);
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_EQ(newest->step(), 2);
  EXPECT_TRUE(warnings.empty());
}

TEST(CheckpointTest, StaleAttemptsGoAndOnlyThey) {
  TempDirectory dir;
  for (const char* name : {"step_00000003.k3-1.tmp", "step_00000003.k3-x.tmp", "step_00000003.tmp", "step_3.k3-1.tmp", "other.tmp"}) {
    ASSERT_TRUE(CreateDirectories(dir / name).ok());
    ASSERT_TRUE(WriteFileAtomically(dir / name + "/shard-00000.json", "x").ok());
  }
  ASSERT_TRUE(RemoveStaleAttempts(dir.path()).ok());
  EXPECT_EQ(NamesIn(dir.path()), (std::vector<std::string>{"other.tmp", "step_00000003.k3-x.tmp", "step_00000003.tmp", "step_3.k3-1.tmp"}));
  EXPECT_TRUE(RemoveStaleAttempts(dir / "missing").ok());
}

TEST(CheckpointTest, NothingThereIsNotFound) {
  TempDirectory dir;
  std::vector<std::string> warnings;
  EXPECT_EQ(OpenNewestCheckpoint(dir.path(), &warnings).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenNewestCheckpoint(dir / "missing", &warnings).status().code(), absl::StatusCode::kNotFound);
}

TEST(WriterTest, SaveReturnsBeforeTheCommitAndCopiesFirst) {
  TempDirectory dir;
  const auto device = NewCpuDevice();
  const auto stream = *device->NewStream();
  std::vector<std::unique_ptr<CheckpointWriter>> writers;
  std::vector<TestRank> ranks;
  std::vector<std::vector<char>> staging;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back(TestTensors(), TestRank::Place{rank, 2, 5});
    staging.emplace_back(static_cast<std::size_t>(StagingBytes(ranks.back().pieces())));
    CheckpointWriter::Options options;
    options.directory = dir.path();
    options.run = "r";
    options.rank = rank;
    options.ranks = 2;
    writers.push_back(*CheckpointWriter::Create(options, ranks.back().pieces(), staging.back().data()));
    ranks.back().Fill(7);
  }
  ASSERT_TRUE(writers[0]->Save(TestState(7), *stream).ok());
  ranks[0].Fill(8);  // training goes on
  EXPECT_TRUE(writers[0]->busy());
  EXPECT_EQ(writers[0]->committed_step(), -1);
  EXPECT_EQ(ListCheckpointSteps(dir.path())->size(), 0u);  // it waits for rank 1
  ASSERT_TRUE(writers[1]->Save(TestState(7), *stream).ok());
  ASSERT_TRUE(writers[1]->Wait().ok());
  ASSERT_TRUE(writers[0]->Wait().ok());
  EXPECT_FALSE(writers[0]->busy());
  EXPECT_EQ(writers[0]->committed_step(), 7);
  const auto checkpoint = Checkpoint::Open(CheckpointPath(dir.path(), 7), Verify::kChecksums);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(LoadDifference(*checkpoint, 1, 0), "");
}

// The step loop allocates nothing after its first step; saves are part of it.
TEST(WriterTest, SaveAllocatesNothingOnTheCallersThread) {
  TempDirectory dir;
  TestRank rank(TestTensors(), {0, 1, 0});
  std::vector<char> staging(static_cast<std::size_t>(StagingBytes(rank.pieces())));
  CheckpointWriter::Options options;
  options.directory = dir.path();
  options.run = "r";
  options.like = TestState(1);
  auto writer = *CheckpointWriter::Create(options, rank.pieces(), staging.data());
  const auto device = NewCpuDevice();
  const auto stream = *device->NewStream();
  const CheckpointState one = TestState(1), two = TestState(2);
  const std::int64_t before = AllocationsOfThisThread();
  const bool saved = writer->Save(one, *stream).ok() && writer->Save(two, *stream).ok() && writer->Wait().ok();
  EXPECT_EQ(AllocationsOfThisThread() - before, 0);
  EXPECT_TRUE(saved);
  EXPECT_EQ(writer->committed_step(), 2);
  const std::int64_t counted = AllocationsOfThisThread();
  const std::string long_enough_for_the_heap(100, 'x');
  EXPECT_GT(AllocationsOfThisThread(), counted);
}

TEST(WriterTest, AMissingRankEndsInAClearErrorAndTheNextSaveWorks) {
  TempDirectory dir;
  TestRun::Options options = RunIn(dir, 2);
  options.peer_timeout_ns = 50'000'000;
  TestRun alone(options);
  const auto device = NewCpuDevice();
  const auto stream = *device->NewStream();
  ASSERT_TRUE(alone.writer(0).Save(TestState(1), *stream).ok());
  const Status status = alone.writer(0).Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("step 1"), HasSubstr("rank 1"), HasSubstr("50 ms")));
  EXPECT_EQ(alone.writer(0).failures_in_a_row(), 1);
  EXPECT_TRUE(NamesIn(dir / "checkpoints").empty());
  TestRun again(RunIn(dir, 2));
  ASSERT_TRUE(again.Save(2).ok());
}

TEST(WriterTest, AbortEndsTheWait) {
  TempDirectory dir;
  TestRun run(RunIn(dir, 2));
  const auto device = NewCpuDevice();
  const auto stream = *device->NewStream();
  ASSERT_TRUE(run.writer(0).Save(TestState(1), *stream).ok());
  run.writer(0).Abort();
  EXPECT_EQ(run.writer(0).Wait().code(), absl::StatusCode::kAborted);
}

TEST(WriterTest, AnotherRanksFailureIsToldAtOnce) {
  TempDirectory dir;
  TestRun run(RunIn(dir, 2));
  const std::string attempt = dir / "checkpoints/" + AttemptDirectoryName({1, "run", 1});
  ASSERT_TRUE(CreateDirectories(attempt + "/" + ShardFileName(1, 2)).ok());  // where rank 1 wants to write a file
  ASSERT_TRUE(run.Begin(1).ok());
  const std::vector<Status> statuses = run.Wait();
  EXPECT_THAT(std::string(statuses[0].message()), HasSubstr("rank 1 failed to write its shard: cannot"));
  EXPECT_THAT(std::string(statuses[1].message()), HasSubstr(ShardFileName(1, 2)));
  EXPECT_TRUE(ListCheckpointSteps(dir / "checkpoints")->empty());
}

// A checkpoint with a hole or with two truths is never made.
TEST(WriterTest, PiecesThatDoNotMakeUpTheirTensorAreNotCommitted) {
  float data[8] = {};
  const auto device = NewCpuDevice();
  const auto stream = *device->NewStream();
  const auto save = [&](std::vector<Piece> pieces) {
    TempDirectory dir;
    CheckpointWriter::Options options;
    options.directory = dir.path();
    options.run = "r";
    std::vector<char> staging(static_cast<std::size_t>(StagingBytes(pieces)));
    auto writer = CheckpointWriter::Create(options, pieces, staging.data());
    if (!writer.ok()) return writer.status();
    LYCIA_RETURN_IF_ERROR((*writer)->Save(TestState(1), *stream));
    const Status status = (*writer)->Wait();
    EXPECT_EQ(ListCheckpointSteps(dir.path())->size(), status.ok() ? 1u : 0u);
    return status;
  };
  EXPECT_TRUE(save({{"w", DType::kF32, {8}, 0, 5, data}, {"w", DType::kF32, {8}, 5, 8, data}}).ok());
  EXPECT_THAT(std::string(save({{"w", DType::kF32, {8}, 0, 7, data}}).message()), HasSubstr("elements 7 to 8 are missing"));
  EXPECT_THAT(std::string(save({{"w", DType::kF32, {8}, 0, 3, data}, {"w", DType::kF32, {8}, 4, 8, data}}).message()),
              HasSubstr("elements 3 to 4 are missing"));
  EXPECT_THAT(std::string(save({{"w", DType::kF32, {8}, 0, 5, data}, {"w", DType::kF32, {8}, 4, 8, data}}).message()),
              HasSubstr("elements 4 to 5 are stored twice"));
  EXPECT_THAT(std::string(save({{"w", DType::kF32, {8}, 0, 5, data}, {"w", DType::kF32, {4, 2}, 5, 8, data}}).message()),
              AllOf(HasSubstr("f32[8]"), HasSubstr("f32[4, 2]")));
  EXPECT_THAT(std::string(save({{std::string(2000, 'n'), DType::kF32, {8}, 0, 8, data}}).message()), HasSubstr("2000 bytes"));
}

}  // namespace
}  // namespace lycia
