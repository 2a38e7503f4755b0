// What the bootstrap and the wire over TCP need of sockets.
#ifndef LYCIA_RUNTIME_COMM_SOCKET_H_
#define LYCIA_RUNTIME_COMM_SOCKET_H_

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/core/status.h"

namespace lycia {

// Owns a file descriptor.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_;
};

using SocketClock = std::chrono::steady_clock;

// `what: errno's words`, Unavailable.
Status SocketError(std::string_view what);
// Until the socket is ready (events of poll); DeadlineExceeded otherwise. What is ready at the deadline has not missed it.
Status AwaitSocket(int fd, short events, SocketClock::time_point deadline);
// Sockets are not blocking and close on exec. Port 0: any; `port` is then the one that was given.
StatusOr<Socket> ListenAt(int* port);
// The next connection, without Nagle's delay, which would hold small messages back for 40 ms; not open() if there is none (any more).
// ResourceExhausted, here and below: this process may not open another file.
StatusOr<Socket> AcceptFrom(const Socket& listener);
// A connection, once, likewise; Unavailable where nobody listens (yet), or no way leads there.
StatusOr<Socket> ConnectTo(const std::string& host, int port, SocketClock::time_point deadline);
// The numeric address of this end of a connection; empty where the connection does not leave the machine.
std::string AddressOfThisEnd(const Socket& connection);
// A message: its length (8 bytes, this machine's order) and its bytes. Unavailable when the peer has gone.
Status SendMessage(int fd, std::string_view message, SocketClock::time_point deadline);
StatusOr<std::string> ReceiveMessage(int fd, std::uint64_t most, SocketClock::time_point deadline);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_SOCKET_H_
