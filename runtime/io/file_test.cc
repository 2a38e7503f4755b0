#include "runtime/io/file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/io/checksum.h"
#include "runtime/io/directory.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Message(const Status& status) { return std::string(status.message()); }

// Runs `body` in a child process and returns its exit code, so that limits and rights given up stay there.
template <typename F>
int InChild(F body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int state = 0;
  EXPECT_EQ(::waitpid(child, &state, 0), child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 1000 + state;
}

TEST(FileTest, WritesWholeReplacesAndLeavesNothingElse) {
  TempDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "first").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "a", std::string("se\0cond", 7)).ok());
  EXPECT_EQ(*ReadFile(dir / "a", 100), std::string("se\0cond", 7));
  const auto entries = ListDirectory(dir.path());
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ((*entries)[0].name, "a");
}

TEST(FileTest, UncommittedFileVanishesAndKeepsTheOldOne) {
  TempDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "old").ok());
  {
    auto file = AtomicFile::Create(dir / "a");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->Append("new", 3).ok());
    EXPECT_EQ(ListDirectory(dir.path())->size(), 2u);
  }
  EXPECT_EQ(ListDirectory(dir.path())->size(), 1u);
  EXPECT_EQ(*ReadFile(dir / "a", 100), "old");
}

TEST(FileTest, RefusesWhatIsNoBelievableFile) {
  TempDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "12345").ok());
  EXPECT_THAT(Message(ReadFile(dir / "a", 4).status()), AllOf(HasSubstr(dir / "a"), HasSubstr("5 bytes"), HasSubstr("limit of 4")));
  EXPECT_EQ(ReadFile(dir / "none", 4).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(ReadFile(dir / "none", 4).status()),
              AllOf(HasSubstr("none"), HasSubstr("No such file"), HasSubstr("check the path")));
  EXPECT_THAT(Message(ReadFile(dir.path(), 4).status()), HasSubstr("folder"));
  EXPECT_THAT(Message(ReadFile("/dev/zero", 4).status()), HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(Message(ReadFile(dir / "fifo", 4).status()), HasSubstr("not a regular file"));  // and does not hang
  ASSERT_EQ(::symlink("a", (dir / "link").c_str()), 0);
  EXPECT_TRUE(ReadFile(dir / "link", 10).ok());
  EXPECT_THAT(Message(ReadFile(dir / "link", 10, Symlinks::kRefuse).status()), HasSubstr("symbolic link"));
}

TEST(FileTest, ReadingPastTheEndIsDataLoss) {
  TempDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "12345").ok());
  auto file = ReadableFile::Open(dir / "a");
  ASSERT_TRUE(file.ok());
  char to[8] = {};
  EXPECT_TRUE(file->ReadAt(2, to, 3).ok());
  EXPECT_STREQ(to, "345");
  const Status status = file->ReadAt(2, to, 4);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("ends at byte 5"), HasSubstr("bytes 2 to 6")));
}

TEST(FileTest, MapsAFile) {
  TempDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "12345").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "empty", "").ok());
  EXPECT_EQ(MappedFile::Open(dir / "a")->bytes(), "12345");
  EXPECT_EQ(MappedFile::Open(dir / "empty")->bytes(), "");
}

// The kernel writes what fits (a short write), then refuses the rest.
TEST(FileTest, FullDiskNamesPathAndBytesAndKeepsTheOldFile) {
  TempDirectory dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "a", "old").ok());
  const int code = InChild([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {5000, 5000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    const std::string text = Message(WriteFileAtomically(dir / "a", std::string(9000, 'x')));
    for (const std::string& part : {dir / "a", std::string("at byte 5000 of 9000"), std::string("ulimit -f")}) {
      if (text.find(part) == text.npos) return 1;
    }
    return 0;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(*ReadFile(dir / "a", 100), "old");
  EXPECT_EQ(ListDirectory(dir.path())->size(), 1u);
}

TEST(FileTest, ErrorTextOfAFullDevice) {
  const Status status = FileError(ENOSPC, "write", "/p", "at byte 4 of 9");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Message(status), "cannot write /p: No space left on device, at byte 4 of 9; free space there or choose another folder");
}

TEST(DirectoryTest, CreatesListsAndRemoves) {
  TempDirectory dir;
  ASSERT_TRUE(CreateDirectories(dir / "a/b//c/").ok());
  ASSERT_TRUE(CreateDirectories(dir / "a/b/c").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "a/b/f", "x").ok());
  ASSERT_TRUE(CreateDirectories(dir / "kept").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "kept/f", "x").ok());
  ASSERT_EQ(::symlink((dir / "kept").c_str(), (dir / "a/link").c_str()), 0);
  EXPECT_THAT(Message(CreateDirectories(dir / "a/b/f/g")), HasSubstr("is a file"));
  for (const char* bad : {"", ".", "..", "a/b", "../kept"}) EXPECT_FALSE(RemoveTree(dir.path(), bad).ok()) << bad;
  ASSERT_TRUE(RemoveTree(dir.path(), "a").ok());
  EXPECT_TRUE(RemoveTree(dir.path(), "a").ok());
  EXPECT_EQ(ListDirectory(dir.path())->size(), 1u);
  EXPECT_TRUE(ReadFile(dir / "kept/f", 10).ok());  // the link went, not what it points to
}

TEST(DirectoryTest, ParentOfEveryForm) {
  EXPECT_EQ(ParentDirectory("a/b/c"), "a/b");
  EXPECT_EQ(ParentDirectory("a//b/"), "a");
  EXPECT_EQ(ParentDirectory("c"), ".");
  EXPECT_EQ(ParentDirectory("/c"), "/");
  EXPECT_EQ(ParentDirectory("/"), "/");
}

TEST(DirectoryTest, PublishRenamesOrExchanges) {
  TempDirectory dir;
  ASSERT_TRUE(CreateDirectories(dir / "new").ok() && CreateDirectories(dir / "new2").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "new/f", "1").ok() && WriteFileAtomically(dir / "new2/f", "2").ok());
  ASSERT_TRUE(PublishDirectory(dir / "new", dir / "out").ok());
  EXPECT_EQ(*ReadFile(dir / "out/f", 9), "1");
  ASSERT_TRUE(PublishDirectory(dir / "new2", dir / "out").ok());
  EXPECT_EQ(*ReadFile(dir / "out/f", 9), "2");
  EXPECT_EQ(*ReadFile(dir / "new2/f", 9), "1");
}

TEST(DirectoryTest, UnwritableFolderIsTheUsersMistake) {
  TempDirectory dir;
  EXPECT_TRUE(ProbeWritable(dir / "made/here").ok());
  EXPECT_TRUE(ListDirectory(dir / "made/here")->empty());
  ASSERT_TRUE(WriteFileAtomically(dir / "file", "").ok());
  for (const std::string& bad : {dir / "file/out", std::string("/proc/out"), std::string()}) {
    const Status status = ProbeWritable(bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(Message(status), HasSubstr("not writable"));
  }
  ASSERT_TRUE(CreateDirectories(dir / "closed", 0555).ok());
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  const int code = InChild([&] {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 2;  // root may write anywhere
    const Status status = ProbeWritable(dir / "closed");
    return absl::IsInvalidArgument(status) && Message(status).find("Permission denied") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

TEST(DirectoryTest, FreeBytesIsPlausible) {
  const auto bytes = FreeBytes("/tmp");
  ASSERT_TRUE(bytes.ok());
  EXPECT_GE(*bytes, 0);
  EXPECT_EQ(FreeBytes("/no/such/folder").status().code(), absl::StatusCode::kNotFound);
}

// Published vectors of XXH3-128 with seed 0.
TEST(ChecksumTest, KnownValuesAndParts) {
  EXPECT_EQ(ChecksumOf("", 0), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(ChecksumOf("a", 1), "a96faf705af16834e6c632b61e964e1f");
  std::string text(100'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 31 + i / 7);
  Checksum parts;
  for (std::size_t at = 0, step = 1; at < text.size(); at += step, step = step * 3 % 4099) {
    step = std::min(step, text.size() - at);
    parts.Update(text.data() + at, static_cast<std::int64_t>(step));
  }
  EXPECT_EQ(parts.Hex(), ChecksumOf(text.data(), static_cast<std::int64_t>(text.size())));
}

}  // namespace
}  // namespace lycia
