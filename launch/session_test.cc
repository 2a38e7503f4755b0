// Ranks as processes of this test: whatever one of them fails with, it is told once, and no other rank waits for it.
#include "launch/session.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

struct Ended {
  std::vector<int> codes;  // exit codes by rank; -1: killed
  std::string told;        // by all ranks
};

// Every rank a process of its own, which ends with what RunRanks returns.
Ended RunProcesses(int ranks, const std::function<Status(Session&)>& body) {
  const TempDirectory folder;
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    ::dup2(ends[1], STDERR_FILENO);
    ::alarm(30);  // a rank that hangs is a failure, and leaves no process
    SessionOptions options{.command = "test", .deadline_seconds = 0};
    options.launcher = {.kind = Launcher::Kind::kProcesses,
                        .rank = rank,
                        .ranks = ranks,
                        .rendezvous = {.folder = folder / "meet"},
                        .address = "127.0.0.1"};
    ::_exit(ExitCode(RunRanks(options, body)));
  }
  ::close(ends[1]);
  Ended ended;
  char bytes[256];
  for (ssize_t some; (some = ::read(ends[0], bytes, sizeof bytes)) > 0;) ended.told.append(bytes, static_cast<std::size_t>(some));
  ::close(ends[0]);
  for (const pid_t child : children) {
    int state = 0;
    EXPECT_EQ(::waitpid(child, &state, 0), child);
    ended.codes.push_back(WIFEXITED(state) ? WEXITSTATUS(state) : -1);
  }
  return ended;
}

long Lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(Session, WhatAllAgreeOnIsToldByRankZero) {
  const Ended ended = RunProcesses(
      3, [](Session& session) { return AgreeOnInput(*session.world, session.rank() == 1 ? InvalidArgument("no such file") : OkStatus()); });
  EXPECT_EQ(ended.codes, std::vector<int>(3, kExitBadInput)) << ended.told;
  EXPECT_EQ(ended.told, "test: no such file\n");
}

// Nobody else knows of it: the others wait for rank 2, and must not do so for ever.
TEST(Session, BadInputThatOneRankAloneHasFoundEndsTheJob) {
  for (const int bad : {0, 2}) {
    const Ended ended = RunProcesses(3, [&](Session& session) {
      return session.rank() == bad ? InvalidArgument("too large for a launch; use more ranks") : session.world->Barrier();
    });
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(ended.codes[static_cast<std::size_t>(rank)], rank == bad ? kExitBadInput : kExitFailure) << rank << ": " << ended.told;
    }
    EXPECT_EQ(Lines(ended.told), 1) << ended.told;
    EXPECT_THAT(ended.told, HasSubstr(StrCat("lycia: rank ", bad, " on ")));
    EXPECT_THAT(ended.told, HasSubstr("too large for a launch; use more ranks"));
  }
}

}  // namespace
}  // namespace lycia
