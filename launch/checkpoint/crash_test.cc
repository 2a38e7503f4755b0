// Crashes and full disks: the test runs itself as a child (see main) that is killed, or that hits a limit, in the middle of saves.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/test_ranks.h"
#include "runtime/core/philox.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::int64_t kScale = 500;  // about 1 MiB a checkpoint, so that kills land in every phase of a save
constexpr const char* kRole = "LYCIA_CHECKPOINT_TEST_ROLE";
constexpr const char* kDirectory = "LYCIA_CHECKPOINT_TEST_DIRECTORY";
constexpr const char* kRunName = "LYCIA_CHECKPOINT_TEST_RUN";

struct Child {
  pid_t pid = -1;
  int output = -1;
};

// This program again, as `role`; what it prints comes through `output`.
Child Start(const std::string& role, const std::string& directory, const std::string& run = "run") {
  int ends[2];
  LYCIA_CHECK_EQ(::pipe2(ends, O_CLOEXEC), 0);
  Child child{::fork(), ends[0]};
  if (child.pid == 0) {
    ::setenv(kRole, role.c_str(), 1);
    ::setenv(kDirectory, directory.c_str(), 1);
    ::setenv(kRunName, run.c_str(), 1);
    ::dup2(ends[1], STDOUT_FILENO);
    ::execl("/proc/self/exe", "crash_test_child", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(ends[1]);
  return child;
}

// Output until the child closes it, and its exit code (or 1000 + wait state).
std::pair<std::string, int> Finish(const Child& child) {
  std::string text;
  char block[4096];
  for (ssize_t got; (got = ::read(child.output, block, sizeof(block))) > 0;) text.append(block, static_cast<std::size_t>(got));
  ::close(child.output);
  int state = 0;
  LYCIA_CHECK_EQ(::waitpid(child.pid, &state, 0), child.pid);
  return {text, WIFEXITED(state) ? WEXITSTATUS(state) : 1000 + state};
}

// Goes on from the newest checkpoint, saving every step, three ranks with one save always under way; prints each committed step.
int SaveForever(const std::string& directory, const std::string& run_name) {
  if (!RemoveStaleAttempts(directory).ok()) return 3;
  std::vector<std::string> warnings;
  std::int64_t step = 0;
  const auto newest = OpenNewestCheckpoint(directory, &warnings);
  if (newest.ok()) {
    step = newest->step();
    if (!LoadDifference(*newest, 2, 77, kScale).empty() || !warnings.empty()) return 4;
  } else if (!absl::IsNotFound(newest.status())) {
    return 5;
  }
  TestRun run({directory, run_name, 3, 2, 11, kScale});
  for (std::int64_t reported = -1;;) {
    if (!run.Begin(++step).ok()) return 6;
    const std::int64_t committed = run.writer(0).committed_step();
    if (committed != reported) {
      std::printf("%lld\n", static_cast<long long>(reported = committed));
      std::fflush(stdout);
    }
  }
}

TEST(CrashTest, KillAtRandomMomentsNeverLosesACommittedCheckpoint) {
  TempDirectory dir;
  const RandomStream random(3, "kill", 0);
  std::int64_t committed = 0;
  int stale = 0;
  for (int kill = 0; kill < 30; ++kill) {
    const Child child = Start("save", dir / "checkpoints", absl::StrCat("run", kill));
    char first = 0;
    ASSERT_EQ(::read(child.output, &first, 1), 1) << "child ended with " << Finish(child).second;  // it is up and has committed
    std::this_thread::sleep_for(std::chrono::microseconds(random.Bits(static_cast<std::uint64_t>(kill)) % 40'000));
    ASSERT_EQ(::kill(child.pid, SIGKILL), 0);
    const auto [text, state] = Finish(child);
    ASSERT_EQ(state, 1000 + SIGKILL);
    const std::string reports = first + text;  // whole lines: each is one short write
    const std::size_t last = reports.find_last_of('\n', reports.size() - 2);
    committed = std::max(committed, std::int64_t{std::atoll(reports.c_str() + (last == reports.npos ? 0 : last + 1))});

    for (const std::string& name : NamesIn(dir / "checkpoints")) stale += ParseAttemptDirectoryName(name).has_value();
    std::vector<std::string> warnings;
    const auto newest = OpenNewestCheckpoint(dir / "checkpoints", &warnings);
    ASSERT_TRUE(newest.ok()) << newest.status();
    EXPECT_TRUE(warnings.empty()) << warnings[0];
    EXPECT_GE(newest->step(), committed) << "kill " << kill;
    EXPECT_LE(newest->step(), committed + 2) << "kill " << kill;
    EXPECT_EQ(LoadDifference(*newest, 2, 5, kScale), "");
    // The one before is there too (keep = 2), whole.
    const auto steps = ListCheckpointSteps(dir / "checkpoints");
    if (newest->step() > 1) {
      ASSERT_GE(steps->size(), 2u);
      const auto previous = Checkpoint::Open(CheckpointPath(dir / "checkpoints", (*steps)[steps->size() - 2]), Verify::kChecksums);
      EXPECT_TRUE(previous.ok()) << previous.status();
    }
  }
  EXPECT_GE(committed, 30);
  EXPECT_GT(stale, 0) << "no kill fell into a save: the test proves nothing";
  std::printf("[ 30 kills, %lld steps committed, %d killed saves ]\n", static_cast<long long>(committed), stale);
}

// One save per file size limit, from nothing to enough; prints "ok" or the error for each.
int SaveUnderLimits(const std::string& directory, const std::string& run_name) {
  ::signal(SIGXFSZ, SIG_IGN);
  TestRun run({directory, run_name, 2, 2, 11, kScale});
  if (!run.Save(1).ok()) return 3;
  for (int point = 0; point <= 20; ++point) {
    const rlim_t bytes = static_cast<rlim_t>(point) * 60'000;
    struct rlimit limit = {bytes, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 4;
    if (!run.Begin(2).ok()) return 5;
    const std::vector<Status> statuses = run.Wait();
    limit.rlim_cur = RLIM_INFINITY;
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 6;
    std::printf("%s\n", statuses[0].ok() ? "ok" : std::string(statuses[0].message()).c_str());
    // Training goes on, and the previous checkpoint is what it was.
    std::vector<std::string> warnings;
    const auto newest = OpenNewestCheckpoint(directory, &warnings);
    if (!newest.ok() || !warnings.empty() || newest->step() != (statuses[0].ok() ? 2 : 1)) return 7;
    if (!LoadDifference(*newest, 1, 0, kScale).empty()) return 8;
    if (statuses[0].ok() && !RemoveTree(directory, StepDirectoryName(2)).ok()) return 9;
  }
  const Status last = run.Save(3);
  return last.ok() ? 0 : 10;
}

TEST(CrashTest, AWriteThatFailsAnywhereKeepsThePreviousCheckpoint) {
  TempDirectory dir;
  const auto [text, code] = Finish(Start("limits", dir / "checkpoints"));
  EXPECT_EQ(code, 0) << text;
  int failed = 0, saved = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    at += line.size() + 1;
    (line == "ok" ? saved : failed) += 1;
    if (line == "ok") continue;
    if (line.find("rank 1 failed to write its shard") != line.npos) continue;  // not even the reason could be left
    EXPECT_THAT(line, AllOf(HasSubstr(dir / "checkpoints/step_00000002"), HasSubstr("File too large"), HasSubstr("at byte"),
                            HasSubstr("ulimit -f")));
  }
  EXPECT_EQ(failed + saved, 21);
  EXPECT_GE(failed, 5);
  EXPECT_GE(saved, 1);
}

bool WriteInPlace(const char* path, const std::string& text) {
  const int descriptor = ::open(path, O_WRONLY | O_CLOEXEC);
  const bool written = ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(descriptor);
  return written;
}

// A file system of 8 MiB, filled until a save finds room for 2, 1.9, ... 0 of itself. Exit code 77: this machine does not allow the mount.
int SaveOnFullDisk(const std::string& directory, const std::string& run_name) {
  const std::string user = absl::StrCat("0 ", ::geteuid(), " 1\n"), group = absl::StrCat("0 ", ::getegid(), " 1\n");
  if (::unshare(CLONE_NEWNS) != 0) {  // not root: be it in a user namespace of our own
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !WriteInPlace("/proc/self/uid_map", user)) return 77;
    if (!WriteInPlace("/proc/self/setgroups", "deny") || !WriteInPlace("/proc/self/gid_map", group)) return 77;
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
  if (!CreateDirectories(directory).ok() || ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=8m") != 0) return 77;
  const std::string checkpoints = JoinPath(directory, "checkpoints"), ballast = JoinPath(directory, "ballast");
  TestRun run({checkpoints, run_name, 2, 1, 11, kScale});
  if (!run.Save(1).ok()) return 3;
  for (int point = 0; point <= 20; ++point) {
    const std::int64_t room = std::int64_t{2'400'000} * (20 - point) / 20;  // twice what a save takes, to nothing
    const StatusOr<std::int64_t> free_bytes = FreeBytes(directory);
    if (!free_bytes.ok() || *free_bytes < room) return 4;
    if (!WriteFileAtomically(ballast, std::string(static_cast<std::size_t>(*free_bytes - room), 'x')).ok()) return 11;
    if (!run.Begin(2).ok()) return 5;
    const std::vector<Status> statuses = run.Wait();
    std::printf("%s\n", statuses[0].ok() ? "ok" : std::string(statuses[0].message()).c_str());
    if (::unlink(ballast.c_str()) != 0) return 6;
    std::vector<std::string> warnings;
    const auto newest = OpenNewestCheckpoint(checkpoints, &warnings);
    if (!newest.ok() || !warnings.empty() || newest->step() != (statuses[0].ok() ? 2 : 1)) return 7;
    if (!LoadDifference(*newest, 1, 0, kScale).empty()) return 8;
    if (statuses[0].ok() && (!RemoveTree(checkpoints, StepDirectoryName(2)).ok() || !run.Save(1).ok())) return 9;
  }
  return run.Save(3).ok() ? 0 : 10;
}

TEST(CrashTest, AFullDiskKeepsThePreviousCheckpoint) {
  TempDirectory dir;
  const auto [text, code] = Finish(Start("full", dir / "disk"));
  if (code == 77) GTEST_SKIP() << "SKIPPED: no small file system can be mounted here (not root, no user namespaces); ENOSPC is not tested";
  EXPECT_EQ(code, 0) << text;
  int failed = 0, saved = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    at += line.size() + 1;
    (line == "ok" ? saved : failed) += 1;
    if (line == "ok") continue;
    EXPECT_THAT(line, AllOf(HasSubstr("checkpoints/step_00000002"), HasSubstr("free space there or choose"), HasSubstr("byte")));
  }
  EXPECT_EQ(failed + saved, 21);
  EXPECT_GE(failed, 3);
  EXPECT_GE(saved, 3);
}

}  // namespace
}  // namespace lycia

int main(int argc, char** argv) {
  using namespace lycia;
  if (const char* role = ::getenv(kRole); role != nullptr) {
    const std::string what = role, directory = ::getenv(kDirectory), run = ::getenv(kRunName);
    if (what == "save") return SaveForever(directory, run);
    return what == "limits" ? SaveUnderLimits(directory, run) : SaveOnFullDisk(directory, run);
  }
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
