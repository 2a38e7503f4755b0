#include "runtime/comm/tcp_connections.h"

#include <poll.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <utility>

namespace lycia {
namespace {

constexpr std::chrono::milliseconds kHelloPatience{2'000};  // a stranger must not hold up the ranks behind it for long

StatusOr<Socket> Reach(const std::string& host, int port, SocketClock::time_point deadline) {
  while (true) {
    StatusOr<Socket> socket = ConnectTo(host, port, deadline);
    if (socket.ok() || absl::IsResourceExhausted(socket.status()) || SocketClock::now() > deadline) return socket;
    constexpr timespec kNap{0, 20'000'000};
    ::nanosleep(&kNap, nullptr);
  }
}

// The connections of the ranks above this one.
Status Accept(const Socket& listener, int rank, const std::string& token, SocketClock::time_point deadline, std::vector<Socket>& sockets) {
  const int size = static_cast<int>(sockets.size());
  while (true) {
    std::vector<int> missing;
    for (int r = rank + 1; r < size; ++r) {
      if (!sockets[static_cast<std::size_t>(r)].open()) missing.push_back(r);
    }
    if (missing.empty()) return OkStatus();
    if (const Status waited = AwaitSocket(listener.fd(), POLLIN, deadline); !waited.ok()) {
      return absl::DeadlineExceededError(
          StrCat("rank ", rank, " waited for the TCP connections of ", RankList(missing), "; does the network let them through?"));
    }
    LYCIA_ASSIGN_OR_RETURN(Socket peer, AcceptFrom(listener));
    if (!peer.open()) continue;
    const StatusOr<std::string> hello = ReceiveMessage(peer.fd(), 4096, std::min(deadline, SocketClock::now() + kHelloPatience));
    if (!hello.ok() || hello->compare(0, token.size() + 1, token + " ") != 0) continue;  // a stranger
    const int r = std::atoi(hello->c_str() + token.size() + 1);
    if (r > rank && r < size) sockets[static_cast<std::size_t>(r)] = std::move(peer);
  }
}

}  // namespace

StatusOr<std::vector<Socket>> ConnectAll(Bootstrap& bootstrap, const std::string& host, std::chrono::milliseconds patience) {
  const auto deadline = SocketClock::now() + patience;
  const int rank = bootstrap.rank();
  std::vector<Socket> sockets(static_cast<std::size_t>(bootstrap.size()));
  int port = 0;
  LYCIA_ASSIGN_OR_RETURN(const Socket listener, ListenAt(&port));
  std::random_device random;
  // Rank 0's number lets strangers be told from ranks.
  const std::string mine = StrCat(host, " ", port, " ", random(), random(), random(), random());
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> places, bootstrap.Exchange("TCP addresses", mine));
  const std::string token = places[0].substr(places[0].rfind(' ') + 1);
  for (int r = 0; r < rank; ++r) {
    const std::string& place = places[static_cast<std::size_t>(r)];
    const std::string at = place.substr(0, place.find(' '));
    StatusOr<Socket> reached = Reach(at, std::atoi(place.c_str() + at.size()), deadline);
    if (!reached.ok()) {
      return Annotate(reached.status(), StrCat("rank ", rank, " to rank ", r, " at ", place.substr(0, place.rfind(' '))));
    }
    LYCIA_RETURN_IF_ERROR(SendMessage(reached->fd(), StrCat(token, " ", rank), deadline));
    sockets[static_cast<std::size_t>(r)] = *std::move(reached);
  }
  LYCIA_RETURN_IF_ERROR(Accept(listener, rank, token, deadline, sockets));
  return sockets;
}

}  // namespace lycia
