#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "runtime/trace/board_link.h"
#include "runtime/trace/board_memory.h"
#include "runtime/trace/board_wire.h"

namespace lycia {
namespace {

constexpr int kPollMs = 50;                           // how soon a stop is seen
constexpr std::int64_t kSilenceNs = 5'000'000'000;    // a connection without a valid message for so long is closed
constexpr std::size_t kStrangers = 8;                 // connections beyond the hosts', for those that are being replaced

// One accepted connection: what has come in and what has to go out.
struct Connection {
  int socket = -1;
  std::int64_t heard_ns = 0;
  std::string in, out;
};

// False: the other side is gone.
bool Receive(Connection& connection, const Board& board, const LinkToken& token) {
  char bytes[4096];
  for (;;) {
    const ssize_t count = recv(connection.socket, bytes, sizeof bytes, 0);
    if (count == 0) return false;
    if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    connection.in.append(bytes, static_cast<std::size_t>(count));
    if (MessageBytes(connection.in, board, token) < 0) return false;  // a stranger is heard no further
  }
}

bool Send(Connection& connection) {
  while (!connection.out.empty()) {
    const ssize_t count = send(connection.socket, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    connection.out.erase(0, static_cast<std::size_t>(count));
  }
  return true;
}

// Takes all whole messages and answers the last one; false on a message that is not this job's.
bool Answer(Connection& connection, Board& board, const LinkToken& token) {
  bool answered = false;
  for (;;) {
    const std::int64_t bytes = MessageBytes(connection.in, board, token);
    if (bytes < 0) return false;
    if (bytes == 0 || connection.in.size() < static_cast<std::size_t>(bytes)) break;
    const WireHeader header = DecodeBoard(std::string_view(connection.in).substr(0, static_cast<std::size_t>(bytes)), board);
    connection.in.erase(0, static_cast<std::size_t>(bytes));
    std::int64_t nobody = 0;
    if (header.reporter != 0) board.memory().job_reporter.compare_exchange_strong(nobody, header.reporter);
    answered = true;
  }
  if (!answered) return true;
  connection.heard_ns = MonotonicNs();
  if (connection.out.empty()) connection.out = EncodeBoard(board, token, WireRows::kAll, board.memory().job_reporter.load());
  return true;
}

void Accept(int listener, std::size_t most, std::vector<Connection>& connections) {
  const int socket = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (socket < 0) return;
  if (connections.size() >= most) {
    close(socket);
    return;
  }
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connections.push_back({.socket = socket, .heard_ns = MonotonicNs(), .in = {}, .out = {}});
}

}  // namespace

StatusOr<std::unique_ptr<BoardHub>> BoardHub::Listen(Board* board, const Options& options) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(options.port));
  if (inet_pton(AF_INET, options.address.c_str(), &address.sin_addr) != 1) {
    return InvalidArgument("the board cannot listen on '", options.address, "': not a numeric IPv4 address, like 10.0.0.1");
  }
  std::unique_ptr<BoardHub> hub(new BoardHub);
  hub->board_ = board;
  hub->options_ = options;
  hub->listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(hub->listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t length = sizeof address;
  sockaddr* const generic = reinterpret_cast<sockaddr*>(&address);
  if (hub->listener_ < 0 || bind(hub->listener_, generic, sizeof address) != 0 || listen(hub->listener_, options.hosts + 8) != 0 ||
      getsockname(hub->listener_, generic, &length) != 0) {
    const std::string reason = std::strerror(errno);
    return absl::UnavailableError(absl::StrCat("the board cannot listen on ", options.address, ":", options.port, ": ", reason,
                                               "; give an address of this host with watchdog.address"));
  }
  hub->port_ = ntohs(address.sin_port);
  board->memory().link.store(BoardMemory::kHub);
  hub->thread_ = std::thread([self = hub.get()] { self->Serve(); });
  return hub;
}

BoardHub::~BoardHub() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
  if (listener_ >= 0) close(listener_);
}

void BoardHub::Serve() {
  const std::size_t most = static_cast<std::size_t>(options_.hosts) + kStrangers;
  std::vector<Connection> connections;
  std::vector<pollfd> polled;
  while (!stop_.load()) {
    polled.assign(1, {.fd = listener_, .events = POLLIN, .revents = 0});
    for (const Connection& connection : connections) {
      const int events = connection.out.empty() ? POLLIN : POLLIN | POLLOUT;
      polled.push_back({.fd = connection.socket, .events = static_cast<short>(events), .revents = 0});
    }
    poll(polled.data(), polled.size(), kPollMs);
    for (std::size_t i = 0; i < connections.size(); ++i) {
      Connection& connection = connections[i];
      bool alive = MonotonicNs() - connection.heard_ns < kSilenceNs;
      if (alive && (polled[i + 1].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        alive = Receive(connection, *board_, options_.token) && Answer(connection, *board_, options_.token);
      }
      if (alive) alive = Send(connection);
      if (alive) continue;
      close(connection.socket);
      connection.socket = -1;
    }
    connections.erase(std::remove_if(connections.begin(), connections.end(), [](const Connection& c) { return c.socket < 0; }),
                      connections.end());
    if ((polled[0].revents & POLLIN) != 0) Accept(listener_, most, connections);
  }
  for (const Connection& connection : connections) close(connection.socket);
}

}  // namespace lycia
