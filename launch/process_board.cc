#include "launch/process_board.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "launch/session.h"

namespace lycia {
namespace {

constexpr std::int64_t kHostNameBytes = 64;

// Numeric IPv4 address of a host, for the board's links; loopback when the name does not resolve.
std::string AddressOf(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  char text[INET_ADDRSTRLEN] = "127.0.0.1";
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) == 0 && found != nullptr) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_addr, text, sizeof text);
    ::freeaddrinfo(found);
  }
  return text;
}

// What rank 0 makes up and everybody must know to find the board.
struct BoardKey {
  std::uint64_t job = 0;
  LinkToken token{};
  std::int64_t port = 0;
  char address[kHostNameBytes] = {};
};

Status Share(Communicator& world, BoardKey& key) {
  return world.Broadcast(Tensor{&key, DType::kU8, {static_cast<std::int64_t>(sizeof key)}}, 0, Tag::kSetup, {}).Wait();
}

// Where rank 0 listens. A name by which it is found from elsewhere may mean another address here, such as loopback: then at all of them.
std::string ListenAddress(const ProcessBoard::Options& options) {
  if (!options.address.empty()) return options.address;
  return options.rendezvous.empty() ? AddressOf(HostName()) : "0.0.0.0";
}

// Where the leader of another host finds rank 0.
std::string LinkAddress(const ProcessBoard::Options& options, const BoardKey& key) {
  return options.address.empty() && !options.rendezvous.empty() ? AddressOf(options.rendezvous) : key.address;
}

}  // namespace

std::string HostName() {
  char name[kHostNameBytes] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

StatusOr<std::vector<std::string>> GatherHosts(Communicator& world) {
  std::vector<char> names(static_cast<std::size_t>(world.size()) * kHostNameBytes);
  char mine[kHostNameBytes] = {};
  std::strncpy(mine, HostName().c_str(), sizeof mine - 1);
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(mine, DType::kU8, {kHostNameBytes}),
                                        .out = Tensor{names.data(), DType::kU8, {static_cast<std::int64_t>(names.size())}},
                                        .tag = Tag::kSetup},
                                       {})
                            .Wait());
  std::vector<std::string> hosts;
  for (int r = 0; r < world.size(); ++r) hosts.emplace_back(names.data() + r * kHostNameBytes);
  return hosts;
}

Status ProcessBoard::Open(Communicator& world, const Options& options) {
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> hosts, GatherHosts(world));
  const auto rank = static_cast<std::size_t>(world.rank());
  const auto here = static_cast<int>(std::count(hosts.begin(), hosts.end(), hosts[rank]));
  const auto first = static_cast<int>(std::find(hosts.begin(), hosts.end(), hosts[rank]) - hosts.begin());
  const bool leader = first == world.rank();
  std::vector<std::string> distinct = hosts;
  std::sort(distinct.begin(), distinct.end());
  const auto num_hosts = static_cast<int>(std::unique(distinct.begin(), distinct.end()) - distinct.begin());

  BoardKey key;
  if (world.rank() == 0) {
    std::random_device random;
    auto word = [&random] { return static_cast<std::uint64_t>(random()) << 32 | random(); };
    key.job = word();
    key.token = {word(), word()};
    std::strncpy(key.address, ListenAddress(options).c_str(), sizeof key.address - 1);
  }
  LYCIA_RETURN_IF_ERROR(Share(world, key));
  // By the host's first rank too: hosts that are containers of one machine may share its memory.
  StatusOr<std::unique_ptr<Board>> board =
      Board::Open({.ranks = world.size(), .job = absl::StrFormat("lycia-%016x-%d", key.job, first), .processes = here});
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, board.status()));  // before the next collective: all go on, or none
  board_ = *std::move(board);
  if (num_hosts == 1) return OkStatus();
  Status listening = OkStatus();
  if (world.rank() == 0) {
    StatusOr<std::unique_ptr<BoardHub>> hub =
        BoardHub::Listen(board_.get(), {.address = key.address, .port = 0, .token = key.token, .hosts = num_hosts});
    listening = hub.status();
    if (hub.ok()) {
      hub_ = *std::move(hub);
      key.port = hub_->port();
    }
  }
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, listening));
  LYCIA_RETURN_IF_ERROR(Share(world, key));
  if (leader && world.rank() != 0) {
    LYCIA_ASSIGN_OR_RETURN(
        link_,
        BoardLink::Connect(board_.get(), {.address = LinkAddress(options, key), .port = static_cast<int>(key.port), .token = key.token}));
  }
  return OkStatus();
}

void ProcessBoard::Linger() const {
  constexpr int kExchanges = 4;
  if (hub_ != nullptr) std::this_thread::sleep_for(std::chrono::nanoseconds(kExchanges * kLinkPeriodNs));
}

}  // namespace lycia
