// Bootstraps of threads that play ranks: all values arrive, whatever the order of arrival; earlier jobs and strangers are not believed;
// who is missing is named.
#include "runtime/comm/bootstrap.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/socket.h"
#include "runtime/comm/transports.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

int FreePort() {
  const int socket = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  socklen_t bytes = sizeof any;
  LYCIA_CHECK_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&any), bytes), 0);
  LYCIA_CHECK_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&any), &bytes), 0);
  ::close(socket);
  return ntohs(any.sin6_port);
}

std::string NewFolder() {
  std::string name = std::string(std::getenv("TEST_TMPDIR") != nullptr ? std::getenv("TEST_TMPDIR") : "/tmp") + "/bootstrap-XXXXXX";
  LYCIA_CHECK(::mkdtemp(name.data()) != nullptr);
  return name;
}

int Files(const std::string& folder) {
  int count = 0;
  DIR* open = ::opendir(folder.c_str());
  while (const dirent* entry = ::readdir(open)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(open);
  return count;
}

void Write(const std::string& path, const std::string& value) { std::ofstream(path) << value; }

using Open = std::function<StatusOr<std::unique_ptr<Bootstrap>>(const BootstrapOptions&)>;

// Runs ranks `present` of `size` as threads; their results by rank, OK for those that are absent.
std::vector<Status> RunRanks(int size, const std::vector<int>& present, const Open& open, const std::function<Status(Bootstrap&)>& body,
                             milliseconds patience = milliseconds(20'000)) {
  std::vector<Status> ended(static_cast<std::size_t>(size));
  std::vector<std::thread> ranks;
  for (int r : present) {
    ranks.emplace_back([&, r] {
      std::this_thread::sleep_for(milliseconds(r * 7 % 5 * 4));  // not in their order
      const auto bootstrap = open({.rank = r, .size = size, .job = "42.0", .patience = patience});
      ended[static_cast<std::size_t>(r)] = bootstrap.ok() ? body(**bootstrap) : bootstrap.status();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return ended;
}

std::vector<int> All(int size) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(r);
  return ranks;
}

std::string ValueOf(int rank, int round) {
  if (round == 1 && rank % 2 == 0) return "";
  std::string value(static_cast<std::size_t>(rank * 1000 + round), static_cast<char>(rank + round));
  value.push_back('\n');
  return value;
}

Status FiveRounds(Bootstrap& bootstrap) {
  for (int round = 0; round < 5; ++round) {
    LYCIA_ASSIGN_OR_RETURN(const auto values, bootstrap.Exchange("a round", ValueOf(bootstrap.rank(), round)));
    for (int r = 0; r < bootstrap.size(); ++r) {
      if (values.size() != static_cast<std::size_t>(bootstrap.size()) || values[static_cast<std::size_t>(r)] != ValueOf(r, round)) {
        return absl::InternalError(StrCat("rank ", bootstrap.rank(), " got another value of rank ", r, " in round ", round));
      }
    }
  }
  return OkStatus();
}

class BootstrapKinds : public testing::TestWithParam<bool> {  // over TCP, or files
 protected:
  BootstrapKinds() : folder_(NewFolder()), port_(FreePort()) {}
  Open Opener() const {
    return [this](const BootstrapOptions& options) {
      return GetParam() ? OpenTcpBootstrap("localhost", port_, options) : OpenFileBootstrap(folder_, options);
    };
  }
  const std::string folder_;
  const int port_;
};

TEST_P(BootstrapKinds, EveryRankGetsTheValuesOfAll) {
  for (const int size : {1, 2, 3, 16}) {
    for (const Status& ended : RunRanks(size, All(size), Opener(), FiveRounds)) EXPECT_TRUE(ended.ok()) << size << " ranks: " << ended;
  }
}

TEST_P(BootstrapKinds, WhoDoesNotStartIsNamedByEveryRank) {
  const std::vector<Status> ended = RunRanks(6, {0, 2}, Opener(), FiveRounds, milliseconds(300));
  EXPECT_TRUE(absl::IsDeadlineExceeded(ended[0])) << ended[0];
  EXPECT_THAT(std::string(ended[0].message()), HasSubstr("for ranks 1, 3 to 5"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(ended[2])) << ended[2];
  if (GetParam()) {
    EXPECT_THAT(std::string(ended[2].message()), HasSubstr("for ranks 1, 3 to 5"));
  }
}

TEST_P(BootstrapKinds, WithoutRankZeroTheOthersSaySo) {
  const std::vector<Status> ended = RunRanks(3, {1, 2}, Opener(), FiveRounds, milliseconds(200));
  for (const int r : {1, 2}) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(ended[static_cast<std::size_t>(r)])) << ended[static_cast<std::size_t>(r)];
    EXPECT_THAT(std::string(ended[static_cast<std::size_t>(r)].message()), HasSubstr("rank 0"));
  }
}

TEST_P(BootstrapKinds, WhoStaysAwayLaterIsNamed) {
  const auto body = [](Bootstrap& bootstrap) -> Status {
    LYCIA_RETURN_IF_ERROR(bootstrap.Exchange("first", "x").status());
    if (bootstrap.rank() == 2) {
      std::this_thread::sleep_for(milliseconds(600));
      return OkStatus();
    }
    return bootstrap.Exchange("NCCL's unique id", "y").status();
  };
  const std::vector<Status> ended = RunRanks(4, All(4), Opener(), body, milliseconds(300));
  for (const int r : {0, 1, 3}) {
    const Status& status = ended[static_cast<std::size_t>(r)];
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("for rank 2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("NCCL's unique id"));
  }
}

TEST_P(BootstrapKinds, RanksThatCountDifferentlyAreToldSo) {
  const Open open = [&](const BootstrapOptions& options) {
    BootstrapOptions other = options;
    if (options.rank == 1) other.size = 4;
    return Opener()(other);
  };
  const std::vector<Status> ended = RunRanks(2, All(2), open, FiveRounds, milliseconds(300));
  EXPECT_TRUE(absl::IsInvalidArgument(ended[1])) << ended[1];
  EXPECT_THAT(std::string(ended[1].message()), HasSubstr("rank 1 was told of 4 ranks and rank 0 of 2"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, BootstrapKinds, testing::Values(true, false),
                         [](const auto& info) { return info.param ? std::string("Tcp") : std::string("Files"); });

// This process may open `more` files besides, until the end of the scope.
class FewFiles {
 public:
  explicit FewFiles(int more) {
    const int next = ::dup(STDIN_FILENO);
    LYCIA_CHECK(next >= 0 && ::close(next) == 0 && ::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit few{static_cast<rlim_t>(next + more), before_.rlim_max};
    LYCIA_CHECK_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  ~FewFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// A hello that waits at a listener makes it ready: without an error, rank 0 would ask again and again, past its deadline.
TEST(TcpBootstrap, WhoMayOpenNoMoreFilesSaysSo) {
  const int port = FreePort();
  const Open open = [&](const BootstrapOptions& options) { return OpenTcpBootstrap("127.0.0.1", port, options); };
  const FewFiles few(2);  // rank 0's listener and rank 1's end of the connection
  const std::vector<Status> ended = RunRanks(2, All(2), open, FiveRounds, milliseconds(300));
  EXPECT_TRUE(absl::IsResourceExhausted(ended[0])) << ended[0];
  EXPECT_THAT(std::string(ended[0].message()), HasSubstr("rank 0: cannot accept a connection"));
  EXPECT_THAT(std::string(ended[0].message()), HasSubstr("raise `ulimit -n`"));
  EXPECT_FALSE(ended[1].ok());
}

TEST(Socket, WhereNoFileIsLeftItIsNotTriedAgain) {
  const FewFiles none(0);
  int port = 0;
  EXPECT_TRUE(absl::IsResourceExhausted(ListenAt(&port).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(ConnectTo("127.0.0.1", 1, SocketClock::now()).status()));
}

// The system refuses at once, not later: what was never connected must not be taken for a connection.
TEST(Socket, AHostThatNoWayLeadsToIsUnavailable) {
  const StatusOr<Socket> connected = ConnectTo("255.255.255.255", 9, SocketClock::now() + milliseconds(200));
  EXPECT_TRUE(absl::IsUnavailable(connected.status())) << connected.status();
}

#if defined(__x86_64__)
// A system that was started without IPv6, as this thread sees it.
void WithoutIpv6() {
  sock_filter program[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
                           BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{.len = std::size(program), .filter = program};
  LYCIA_CHECK_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  LYCIA_CHECK_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0), 0);
}

TEST(TcpBootstrap, MeetsWithoutIpv6) {
  const int port = FreePort();
  const Open open = [&](const BootstrapOptions& options) {
    WithoutIpv6();
    return OpenTcpBootstrap("127.0.0.1", port, options);
  };
  for (const Status& ended : RunRanks(3, All(3), open, FiveRounds)) EXPECT_TRUE(ended.ok()) << ended;
}
#endif

// A job of the same name was killed in the middle of everything.
TEST(FileBootstrap, AnEarlierJobIsNotTakenForAnAnswer) {
  const std::string folder = NewFolder(), inside = folder + "/lycia-42.0";
  ::mkdir(inside.c_str(), 0700);
  Write(inside + "/hello.1", "stale1");
  Write(inside + "/hello.2", "stale2");
  Write(inside + "/round", "staleleader\n3\nstale1\nstale2\n");
  Write(inside + "/ready.1", "staleleader stale1");
  Write(inside + "/ready.2", "staleleader stale2");
  Write(inside + "/staleleader.1.0", "a wrong value");
  const Open open = [&](const BootstrapOptions& options) {
    if (options.rank == 2) std::this_thread::sleep_for(milliseconds(150));  // rank 0 and 1 see only its stale files meanwhile
    return OpenFileBootstrap(folder, options);
  };
  for (const Status& ended : RunRanks(3, All(3), open, FiveRounds)) EXPECT_TRUE(ended.ok()) << ended;
  EXPECT_EQ(Files(inside), 3);  // the values of the last round, which nobody has reason to delete
  for (const Status& ended : RunRanks(3, All(3), open, FiveRounds)) EXPECT_TRUE(ended.ok()) << ended;
  EXPECT_EQ(Files(inside), 3);
}

// Only stale files of rank 1: it is missing, not present.
TEST(FileBootstrap, StaleFilesDoNotStandForARank) {
  const std::string folder = NewFolder(), inside = folder + "/lycia-42.0";
  ::mkdir(inside.c_str(), 0700);
  Write(inside + "/hello.1", "stale1");
  Write(inside + "/ready.1", "staleleader stale1");
  const std::vector<Status> ended = RunRanks(
      2, {0}, [&](const BootstrapOptions& options) { return OpenFileBootstrap(folder, options); }, FiveRounds, milliseconds(200));
  EXPECT_TRUE(absl::IsDeadlineExceeded(ended[0])) << ended[0];
  EXPECT_THAT(std::string(ended[0].message()), HasSubstr("for rank 1"));
}

TEST(FileBootstrap, AFolderThatCannotBeWrittenIsNamed) {
  EXPECT_THAT(std::string(OpenFileBootstrap("/proc/nowhere", {}).status().message()), HasSubstr("cannot make /proc/nowhere"));
  EXPECT_TRUE(absl::IsInvalidArgument(OpenFileBootstrap("/tmp", {.job = "../x"}).status()));
}

TEST(TcpBootstrap, StrangersAndOtherJobsAreTurnedAway) {
  const int port = FreePort();
  std::vector<Status> other_job(1);
  const Open open = [&](const BootstrapOptions& options) -> StatusOr<std::unique_ptr<Bootstrap>> {
    if (options.rank == 1) {
      // Noise, a connection that says nothing and one of another job come before this rank.
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<std::uint16_t>(port));
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const int noise = ::socket(AF_INET, SOCK_STREAM, 0), silent = ::socket(AF_INET, SOCK_STREAM, 0);
      while (::connect(noise, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::this_thread::yield();
      EXPECT_GT(::send(noise, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 0);
      ::connect(silent, reinterpret_cast<sockaddr*>(&address), sizeof address);
      ::close(silent);
      BootstrapOptions foreign = options;
      foreign.job = "43.0";
      other_job[0] = OpenTcpBootstrap("localhost", port, foreign).status();
      ::close(noise);
    }
    return OpenTcpBootstrap("localhost", port, options);
  };
  for (const Status& ended : RunRanks(2, All(2), open, FiveRounds)) EXPECT_TRUE(ended.ok()) << ended;
  EXPECT_TRUE(absl::IsInvalidArgument(other_job[0])) << other_job[0];
  EXPECT_THAT(std::string(other_job[0].message()), HasSubstr("this is job 42.0, not 43.0"));
}

TEST(TcpBootstrap, ARankThatLeavesIsNamedAtOnce) {
  const int port = FreePort();
  const auto body = [](Bootstrap& bootstrap) -> Status {
    if (bootstrap.rank() == 1) return OkStatus();  // dies
    return bootstrap.Exchange("NCCL's unique id", "y").status();
  };
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Status> ended = RunRanks(
      3, All(3), [&](const BootstrapOptions& options) { return OpenTcpBootstrap("localhost", port, options); }, body);
  for (const int r : {0, 2}) {
    EXPECT_TRUE(absl::IsUnavailable(ended[static_cast<std::size_t>(r)])) << ended[static_cast<std::size_t>(r)];
    EXPECT_THAT(std::string(ended[static_cast<std::size_t>(r)].message()), HasSubstr("rank 1 left (NCCL's unique id)"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));  // not the patience of 20 s
}

TEST(TcpBootstrap, APortInUseIsNamed) {
  const int port = FreePort(), taken = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(static_cast<std::uint16_t>(port));
  ASSERT_EQ(::bind(taken, reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
  ASSERT_EQ(::listen(taken, 1), 0);
  EXPECT_THAT(std::string(OpenTcpBootstrap("localhost", port, {.size = 2}).status().message()),
              HasSubstr(StrCat("cannot listen at port ", port)));
  ::close(taken);
}

TEST(CommunicatorBootstrap, EveryRankGetsTheValuesOfAll) {
  for (const int size : {1, 2, 5}) {
    const Status status = RunThreadRanks(size, [](Communicator& world) { return FiveRounds(*BootstrapOver(&world)); });
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(RankList, Reads) {
  const std::vector<int> one = {3}, some = {2, 5, 6, 7, 9, 10};
  EXPECT_EQ(RankList(one), "rank 3");
  EXPECT_EQ(RankList(some), "ranks 2, 5 to 7, 9, 10");
}

}  // namespace
}  // namespace lycia
