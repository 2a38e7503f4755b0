// Damage: truncated, flipped, missing and foreign files are refused with file and reason, and the checkpoint before is used.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/test_ranks.h"
#include "runtime/core/philox.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

// In place and without a sync: damage need not survive a power cut.
void Overwrite(const std::string& path, const std::string& content) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ASSERT_EQ(::write(descriptor, content.data(), content.size()), static_cast<ssize_t>(content.size()));
  ASSERT_EQ(::close(descriptor), 0);
}

// Two checkpoints of three ranks; the newest is to be damaged.
class DamageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TestRun run({dir_.path(), "run", 3, 2, 9});
    ASSERT_TRUE(run.Save(1).ok());
    ASSERT_TRUE(run.Save(2).ok());
    files_ = NamesIn(newest_);
    ASSERT_EQ(files_.size(), 4u);
  }

  std::string Path(const std::string& file) const { return JoinPath(newest_, file); }

  // The newest is refused, in words that name `file`.
  void ExpectRefused(const std::string& file, const std::string& what) {
    const auto checkpoint = Checkpoint::Open(newest_, Verify::kChecksums);
    ASSERT_FALSE(checkpoint.ok()) << what;
    EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss) << what << ": " << checkpoint.status();
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(Path(file))) << what;
    EXPECT_GT(checkpoint.status().message().size(), Path(file).size() + 10) << what;  // and a reason
  }
  void ExpectFallback(const std::string& file) {
    std::vector<std::string> warnings;
    const auto checkpoint = OpenNewestCheckpoint(dir_.path(), &warnings);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->step(), 1);
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_THAT(warnings[0], HasSubstr(Path(file)));
    EXPECT_EQ(LoadDifference(*checkpoint, 2, 4), "");
  }
  void ExpectSound() {
    std::vector<std::string> warnings;
    const auto checkpoint = OpenNewestCheckpoint(dir_.path(), &warnings);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->step(), 2);
  }

  TempDirectory dir_;
  const std::string newest_ = CheckpointPath(dir_.path(), 2);
  std::vector<std::string> files_;
};

TEST_F(DamageTest, EveryTruncationIsRefused) {
  for (const std::string& file : files_) {
    const std::string whole = *ReadFile(Path(file), 1 << 20);
    std::vector<std::size_t> sizes;
    for (std::size_t percent = 0; percent < 100; ++percent) sizes.push_back(whole.size() * percent / 100);
    if (file == kManifestName) {  // the end of every field and line
      for (std::size_t i = 0; i < whole.size(); ++i) {
        if (whole[i] == ',' || whole[i] == '\n') sizes.push_back(i);
      }
    } else {
      const auto parsed = SafetensorsFile::Open(Path(file));
      ASSERT_TRUE(parsed.ok());
      sizes.insert(sizes.end(), {7, 8, 9, static_cast<std::size_t>(parsed->tensors()[0].offset)});
      for (const TensorView& tensor : parsed->tensors()) sizes.push_back(static_cast<std::size_t>(tensor.offset + tensor.bytes - 1));
    }
    for (const std::size_t size : sizes) {
      ASSERT_LT(size, whole.size());
      ASSERT_EQ(::truncate(Path(file).c_str(), static_cast<off_t>(size)), 0);
      ExpectRefused(file, file + " cut to " + std::to_string(size));
      Overwrite(Path(file), whole);
    }
    Overwrite(Path(file), whole + '\n');
    ExpectRefused(file, file + " with a byte more");
    ExpectFallback(file);
    ASSERT_TRUE(RemoveTree(newest_, file).ok());
    ExpectRefused(file, file + " missing");
    ExpectFallback(file);
    Overwrite(Path(file), whole);
  }
  ExpectSound();
}

// Flips one random bit after another, over all files by size; `check` sees each.
void ForEachFlip(const std::vector<std::string>& paths, int count, std::uint64_t seed,
                 const std::function<void(std::size_t file, const std::string& what)>& check) {
  std::vector<std::int64_t> ends;
  for (const std::string& path : paths) ends.push_back((ends.empty() ? 0 : ends.back()) + ReadableFile::Open(path)->size());
  const RandomStream random(seed, "flip", 0);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t bits = random.Bits(static_cast<std::uint64_t>(2 * i)) % (static_cast<std::uint64_t>(ends.back()) * 8);
    std::int64_t at = static_cast<std::int64_t>(bits / 8);
    std::size_t file = 0;
    while (at >= ends[file]) ++file;
    if (file > 0) at -= ends[file - 1];
    const int descriptor = ::open(paths[file].c_str(), O_RDWR);
    unsigned char byte = 0;
    ASSERT_EQ(::pread(descriptor, &byte, 1, at), 1);
    const unsigned char flipped = static_cast<unsigned char>(byte ^ (1u << (bits % 8)));
    ASSERT_EQ(::pwrite(descriptor, &flipped, 1, at), 1);
    check(file, paths[file] + " byte " + std::to_string(at) + " bit " + std::to_string(bits % 8));
    ASSERT_EQ(::pwrite(descriptor, &byte, 1, at), 1);
    ::close(descriptor);
  }
}

TEST_F(DamageTest, EveryFlippedBitIsFoundAndTheOneBeforeIsUsed) {
  std::vector<std::string> paths;
  for (const std::string& file : files_) paths.push_back(Path(file));
  int flips = 0;
  ForEachFlip(paths, 2000, 1, [&](std::size_t file, const std::string& what) {
    ExpectRefused(files_[file], what);
    if (flips++ % 20 == 0) ExpectFallback(files_[file]);
  });
  EXPECT_EQ(flips, 2000);
  ExpectSound();
}

// Ranks that trust the one that read everything still never take wrong bytes.
TEST_F(DamageTest, WithoutTheFullCheckNoWrongByteIsLoaded) {
  std::vector<std::string> paths;
  for (const std::string& file : files_) paths.push_back(Path(file));
  int refused_at_open = 0, refused_at_load = 0;
  ForEachFlip(paths, 1000, 2, [&](std::size_t, const std::string& what) {
    const auto checkpoint = Checkpoint::Open(newest_, Verify::kSizes);
    if (!checkpoint.ok()) {
      ++refused_at_open;
      return;
    }
    TestRank loaded(TestTensors(), {0, 1, 0});
    if (!checkpoint->Load(loaded.pieces()).ok()) {
      ++refused_at_load;
    } else {
      EXPECT_EQ(loaded.Difference(2), "") << what;  // a flip that changes nothing: a space of the header's padding
    }
  });
  EXPECT_GT(refused_at_open, 100);
  EXPECT_GT(refused_at_load, 100);
}

TEST_F(DamageTest, ForeignFilesAreRefused) {
  const std::string shard = files_[1], other = files_[2];
  const std::string old = *ReadFile(JoinPath(CheckpointPath(dir_.path(), 1), shard), 1 << 20), whole = *ReadFile(Path(shard), 1 << 20);
  ASSERT_EQ(old.size(), whole.size());
  ASSERT_TRUE(WriteFileAtomically(Path(shard), old).ok());  // sound, of the right size, of another step
  ExpectRefused(shard, "shard of another step");
  ASSERT_TRUE(WriteFileAtomically(Path(shard), *ReadFile(Path(other), 1 << 20)).ok());
  ExpectRefused(shard, "shard of another rank");
  ASSERT_TRUE(WriteFileAtomically(dir_ / "copy", whole).ok());
  ASSERT_EQ(::unlink(Path(shard).c_str()), 0);
  ASSERT_EQ(::symlink((dir_ / "copy").c_str(), Path(shard).c_str()), 0);
  ExpectRefused(shard, "link");
  ASSERT_EQ(::unlink(Path(shard).c_str()), 0);
  ASSERT_EQ(::mkfifo(Path(shard).c_str(), 0600), 0);
  ExpectRefused(shard, "FIFO");
  ASSERT_EQ(::unlink(Path(shard).c_str()), 0);
  ASSERT_TRUE(WriteFileAtomically(Path(shard), whole).ok());
  ExpectSound();
}

TEST_F(DamageTest, ARenamedStepIsNotBelieved) {
  ASSERT_EQ(::rename(newest_.c_str(), CheckpointPath(dir_.path(), 7).c_str()), 0);
  std::vector<std::string> warnings;
  const auto checkpoint = OpenNewestCheckpoint(dir_.path(), &warnings);
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ(checkpoint->step(), 1);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("says it is step 2"));
}

TEST_F(DamageTest, AllDamagedIsAnErrorNeverAFreshStart) {
  for (std::int64_t step : {1, 2}) ASSERT_EQ(::truncate((CheckpointPath(dir_.path(), step) + "/manifest.json").c_str(), 10), 0);
  std::vector<std::string> warnings;
  const auto checkpoint = OpenNewestCheckpoint(dir_.path(), &warnings);
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("none of the 2 checkpoints"));
  EXPECT_EQ(warnings.size(), 2u);
}

}  // namespace
}  // namespace lycia
