#include "runtime/comm/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace lycia {
namespace {

constexpr std::chrono::milliseconds kConnectPatience{2'000};  // for one address of several

// Moves all bytes one way or the other; Unavailable when the peer has gone.
template <typename Move>
Status MoveAll(int fd, short events, std::size_t bytes, SocketClock::time_point deadline, const Move& move) {
  for (std::size_t done = 0; done < bytes;) {
    LYCIA_RETURN_IF_ERROR(AwaitSocket(fd, events, deadline));
    const ssize_t some = move(done, bytes - done);
    if (some == 0) return absl::UnavailableError("the connection was closed");
    if (some < 0 && errno != EINTR && errno != EAGAIN) return SocketError("the connection broke");
    if (some > 0) done += static_cast<std::size_t>(some);
  }
  return OkStatus();
}

// No socket, as errno says.
Status NoSocket(std::string_view what) {
  if (errno != EMFILE) return SocketError(what);
  return absl::ResourceExhaustedError(
      StrCat(what, ": ", std::strerror(errno), "; a rank has a connection to every other one: raise `ulimit -n`"));
}

}  // namespace

Status SocketError(std::string_view what) { return absl::UnavailableError(StrCat(what, ": ", std::strerror(errno))); }

Status AwaitSocket(int fd, short events, SocketClock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SocketClock::now()).count();
    pollfd ready{fd, events, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(std::clamp<std::int64_t>(left + 1, 0, 1'000'000)));
    if (count > 0) return OkStatus();
    if (count < 0 && errno != EINTR) return SocketError("poll");
    if (left < 0) return absl::DeadlineExceededError("deadline");
  }
}

StatusOr<Socket> ListenAt(int* port) {
  constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  Socket listener(::socket(AF_INET6, kType, 0));
  const bool only_ipv4 = !listener.open() && errno == EAFNOSUPPORT;  // the system was started without IPv6
  if (only_ipv4) listener = Socket(::socket(AF_INET, kType, 0));
  if (!listener.open()) return NoSocket("cannot open a socket");
  const int on = 1, off = 0;
  ::setsockopt(listener.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!only_ipv4) ::setsockopt(listener.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);  // IPv4 too
  union {
    sockaddr any;
    sockaddr_in ipv4;
    sockaddr_in6 ipv6;
  } address{};
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  address.ipv6.sin6_family = only_ipv4 ? AF_INET : AF_INET6;
  address.ipv6.sin6_port = htons(static_cast<std::uint16_t>(*port));
  socklen_t bytes = only_ipv4 ? sizeof address.ipv4 : sizeof address.ipv6;
  if (::bind(listener.fd(), &address.any, bytes) != 0 || ::listen(listener.fd(), SOMAXCONN) != 0 ||
      ::getsockname(listener.fd(), &address.any, &bytes) != 0) {
    return SocketError(StrCat("cannot listen at port ", *port));
  }
  *port = ntohs(address.ipv6.sin6_port);
  return listener;
}

StatusOr<Socket> ConnectTo(const std::string& host, int port, SocketClock::time_point deadline) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int code = ::getaddrinfo(host.c_str(), StrCat(port).c_str(), &hints, &found); code != 0) {
    return absl::UnavailableError(StrCat("cannot resolve ", host, ": ", ::gai_strerror(code)));
  }
  StatusOr<Socket> connected = absl::UnavailableError(StrCat(host, " has no address"));
  for (const addrinfo* at = found; at != nullptr && !connected.ok(); at = at->ai_next) {
    Socket peer(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!peer.open()) {
      connected = NoSocket("cannot open a socket");
      continue;
    }
    if (::connect(peer.fd(), at->ai_addr, at->ai_addrlen) != 0 && errno != EINPROGRESS && errno != EINTR) {  // else it ends later
      connected = SocketError("no connection");
      continue;
    }
    Status ended = AwaitSocket(peer.fd(), POLLOUT, std::min(deadline, SocketClock::now() + kConnectPatience));
    int error = 0;
    socklen_t bytes = sizeof error;
    ::getsockopt(peer.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error != 0) ended = absl::UnavailableError(std::strerror(error));
    if (absl::IsDeadlineExceeded(ended)) ended = absl::UnavailableError("no connection yet");
    const int on = 1;
    ::setsockopt(peer.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connected = ended.ok() ? StatusOr<Socket>(std::move(peer)) : ended;
  }
  ::freeaddrinfo(found);
  return connected;
}

StatusOr<Socket> AcceptFrom(const Socket& listener) {
  Socket peer(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  // Whoever waits at the listener would find it ready again at once, and never come to its deadline.
  if (!peer.open() && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
    return NoSocket("cannot accept a connection");
  const int on = 1;
  if (peer.open()) ::setsockopt(peer.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return peer;
}

std::string AddressOfThisEnd(const Socket& connection) {
  sockaddr_storage here{};
  socklen_t bytes = sizeof here;
  char text[NI_MAXHOST] = {};
  const auto* address = reinterpret_cast<const sockaddr*>(&here);
  if (::getsockname(connection.fd(), reinterpret_cast<sockaddr*>(&here), &bytes) != 0) return "";
  if (::getnameinfo(address, bytes, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) return "";
  constexpr std::string_view kMapped = "::ffff:";  // IPv4 on a socket of IPv6
  std::string_view numeric = text;
  if (numeric.substr(0, kMapped.size()) == kMapped) numeric.remove_prefix(kMapped.size());
  return numeric.substr(0, 4) == "127." || numeric == "::1" ? "" : std::string(numeric);
}

Status SendMessage(int fd, std::string_view message, SocketClock::time_point deadline) {
  std::string bytes(sizeof(std::uint64_t), '\0');
  const std::uint64_t length = message.size();
  std::memcpy(bytes.data(), &length, sizeof length);
  bytes += message;
  return MoveAll(fd, POLLOUT, bytes.size(), deadline,
                 [&](std::size_t at, std::size_t left) { return ::send(fd, bytes.data() + at, left, MSG_NOSIGNAL); });
}

StatusOr<std::string> ReceiveMessage(int fd, std::uint64_t most, SocketClock::time_point deadline) {
  std::uint64_t length = 0;
  LYCIA_RETURN_IF_ERROR(MoveAll(fd, POLLIN, sizeof length, deadline, [&](std::size_t at, std::size_t left) {
    return ::recv(fd, reinterpret_cast<char*>(&length) + at, left, 0);
  }));
  if (length > most) return absl::InvalidArgumentError(StrCat("a message of ", length, " bytes, more than ", most));
  std::string message(length, '\0');
  LYCIA_RETURN_IF_ERROR(MoveAll(fd, POLLIN, message.size(), deadline,
                                [&](std::size_t at, std::size_t left) { return ::recv(fd, message.data() + at, left, 0); }));
  return message;
}

}  // namespace lycia
