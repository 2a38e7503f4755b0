// Hosts must see each other's rows, agree on who reports, and listen to nobody without the job's token.
#include "runtime/trace/board_link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/trace/board_memory.h"
#include "runtime/trace/testing/board_testing.h"
#include "runtime/trace/watchdog.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;
using testing::Child;
using testing::Eventually;
using testing::OpenBoard;

// Two hosts of one job, each with its own memory, joined by a hub and a link on loopback.
struct TwoHosts {
  LinkToken token{0x1234, 0x5678};
  std::unique_ptr<Board> here = OpenBoard({.ranks = 2}), there = OpenBoard({.ranks = 2});
  std::unique_ptr<BoardHub> hub;
  std::unique_ptr<BoardLink> link;

  TwoHosts() {
    StatusOr<std::unique_ptr<BoardHub>> opened = BoardHub::Listen(here.get(), {.token = token, .hosts = 2});
    EXPECT_TRUE(opened.ok()) << opened.status();
    hub = std::move(*opened);
    StatusOr<std::unique_ptr<BoardLink>> connected =
        BoardLink::Connect(there.get(), {.address = "127.0.0.1", .port = hub->port(), .token = token});
    EXPECT_TRUE(connected.ok()) << connected.status();
    link = std::move(*connected);
    here->Join(0);
    there->Join(1);
  }
};

TEST(BoardLink, HostsSeeEachOthersRows) {
  TwoHosts hosts;
  hosts.here->Publish(0, "p0.0F1", 3);
  hosts.there->Publish(1, "p0.1RECVF1", 4);
  hosts.there->Waiting(1, 2'000'000'000);
  EXPECT_TRUE(Eventually([&] { return hosts.here->Snapshot()[1].instruction == "p0.1RECVF1" && hosts.here->Snapshot()[1].waiting; }));
  EXPECT_TRUE(Eventually([&] { return hosts.there->Snapshot()[0].instruction == "p0.0F1"; }));
  EXPECT_TRUE(hosts.here->Snapshot()[0].here && hosts.there->Snapshot()[1].here);
  const BoardRow row = hosts.here->Snapshot()[1];
  EXPECT_FALSE(row.here);
  EXPECT_EQ(row.step, 4);
  EXPECT_GE(row.wait_age_ns, 2'000'000'000);
  EXPECT_LT(row.heartbeat_age_ns, 2'000'000'000);
  hosts.there->Leave(1);
  hosts.link.reset();  // says so before it goes
  EXPECT_TRUE(Eventually([&] { return hosts.here->Snapshot()[1].state == RankState::kLeft; }));
}

TEST(BoardLink, OneRankOfTheJobMayReport) {
  TwoHosts hosts;
  Board::Claim here = Board::Claim::kUndecided, there = Board::Claim::kUndecided;
  EXPECT_TRUE(Eventually([&] {
    there = hosts.there->ClaimReport(1);
    return there != Board::Claim::kUndecided;
  }));
  EXPECT_EQ(there, Board::Claim::kMine);
  EXPECT_EQ(hosts.here->ClaimReport(0), Board::Claim::kUndecided);  // the other one has not printed yet
  hosts.there->ReportDone();
  EXPECT_TRUE(Eventually([&] {
    here = hosts.here->ClaimReport(0);
    return here != Board::Claim::kUndecided;
  }));
  EXPECT_EQ(here, Board::Claim::kOthers);
}

TEST(BoardLink, AnotherProcessThatIsStoppedGrowsStaleAcrossTheLink) {
  // The child is a host with one process; it learns the port through a pipe, because it must be made before this process has threads.
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const LinkToken token{7, 8};
  const Child child([&] {
    int port = 0;
    if (read(pipe_ends[0], &port, sizeof port) != sizeof port) _exit(1);
    auto board = Board::Open({.ranks = 2});
    auto link = BoardLink::Connect(board->get(), {.address = "127.0.0.1", .port = port, .token = token});
    if (!link.ok()) _exit(1);
    (*board)->Join(1);
    (*board)->Publish(1, "p0.1B2", 5);
    for (;;) pause();
  });
  const auto board = OpenBoard({.ranks = 2});
  auto hub = BoardHub::Listen(board.get(), {.token = token, .hosts = 2});
  ASSERT_TRUE(hub.ok()) << hub.status();
  const int port = (*hub)->port();
  ASSERT_EQ(write(pipe_ends[1], &port, sizeof port), static_cast<ssize_t>(sizeof port));
  board->Join(0);
  ASSERT_TRUE(Eventually([&] { return board->Snapshot()[1].instruction == "p0.1B2"; }));
  kill(child.pid(), SIGSTOP);
  ASSERT_TRUE(Eventually([&] { return !Diagnose(board->Snapshot(), 1'000'000'000).culprits.empty(); }));
  EXPECT_THAT(Diagnose(board->Snapshot(), 1'000'000'000).line, HasSubstr("its last instruction was p0.1B2 of step 5"));
  kill(child.pid(), SIGCONT);  // and it recovers
  EXPECT_TRUE(Eventually([&] { return board->Snapshot()[1].heartbeat_age_ns < 1'000'000'000; }));
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

int ConnectTo(int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(connect(connection, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return connection;
}

TEST(BoardLink, AStrangerIsHungUpOnAndDisturbsNobody) {
  TwoHosts hosts;
  const int stranger = ConnectTo(hosts.hub->port());
  const std::string noise(4096, 'G');
  EXPECT_EQ(send(stranger, noise.data(), noise.size(), MSG_NOSIGNAL), 4096);
  char byte;
  EXPECT_LE(recv(stranger, &byte, 1, 0), 0);  // closed, and nothing was told
  close(stranger);
  // The right shape with a wrong token.
  const auto other = OpenBoard({.ranks = 2});
  EXPECT_EQ(BoardLink::Connect(other.get(), {.address = "not an address", .port = 1}).status().code(), absl::StatusCode::kInvalidArgument);
  hosts.there->Publish(1, "still here", 1);
  EXPECT_TRUE(Eventually([&] { return hosts.here->Snapshot()[1].instruction == "still here"; }));
}

TEST(BoardLink, AWrongTokenIsRefused) {
  TwoHosts hosts;
  const auto other = OpenBoard({.ranks = 2});
  const BoardLink::Options wrong{
      .address = "127.0.0.1", .port = hosts.hub->port(), .token = {0x1234, 0x5679}, .patience_ns = 300'000'000};
  EXPECT_EQ(BoardLink::Connect(other.get(), wrong).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(other->Snapshot()[0].state, RankState::kAbsent);  // it learned nothing
}

TEST(BoardLink, ALostConnectionIsOpenedAgain) {
  TwoHosts hosts;
  hosts.there->Publish(1, "before", 1);
  ASSERT_TRUE(Eventually([&] { return hosts.here->Snapshot()[1].instruction == "before"; }));
  const int port = hosts.hub->port();
  hosts.hub.reset();
  hosts.there->Publish(1, "after", 2);
  EXPECT_TRUE(Eventually([&] { return hosts.there->memory().link.load() == BoardMemory::kHubLost; }));
  StatusOr<std::unique_ptr<BoardHub>> again = absl::UnknownError("not tried");
  ASSERT_TRUE(Eventually([&] {
    again = BoardHub::Listen(hosts.here.get(), {.port = port, .token = hosts.token, .hosts = 2});
    return again.ok();
  })) << again.status();
  EXPECT_TRUE(Eventually([&] { return hosts.here->Snapshot()[1].instruction == "after"; }));
  EXPECT_TRUE(Eventually([&] { return hosts.there->memory().link.load() == BoardMemory::kLinked; }));
  EXPECT_EQ(hosts.here->ClaimReport(0), Board::Claim::kMine);  // and decides again
  EXPECT_EQ(hosts.there->ClaimReport(1), Board::Claim::kUndecided);
}

// The hub's host has gone down: nobody can say any more who reports, and silence would be the worst.
TEST(BoardLink, AHostWithoutTheHubReportsForItself) {
  TwoHosts hosts;
  hosts.hub.reset();
  EXPECT_TRUE(Eventually([&] { return hosts.there->ClaimReport(1) == Board::Claim::kMine; }));
  EXPECT_EQ(hosts.there->ClaimReport(0), Board::Claim::kUndecided) << "one rank of the host";
  hosts.there->ReportDone();
  EXPECT_EQ(hosts.there->ClaimReport(0), Board::Claim::kOthers);
}

TEST(BoardHub, AnAddressThatIsNotHereIsRefused) {
  const auto board = OpenBoard({.ranks = 1});
  EXPECT_EQ(BoardHub::Listen(board.get(), {.address = "localhost"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(BoardHub::Listen(board.get(), {.address = "192.0.2.1"}).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace lycia
