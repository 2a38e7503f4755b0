#include "runtime/trace/board_link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "runtime/trace/board_memory.h"
#include "runtime/trace/board_wire.h"

namespace lycia {
namespace {

constexpr int kAnswerSeconds = 2;  // of one exchange; then the connection is opened again
constexpr auto kNap = std::chrono::milliseconds(20);  // how soon a stop is seen

// -1, with errno, on failure.
int OpenConnection(const std::string& address, int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) return -1;
  const timeval patience{.tv_sec = kAnswerSeconds, .tv_usec = 0};  // SO_SNDTIMEO bounds connect as well
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const int on = 1;
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(connection, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return connection;
  const int error = errno;
  close(connection);
  errno = error;
  return -1;
}

bool SendAll(int connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

// This host's rows go out, the whole board comes back. False: the connection is of no more use.
bool Exchange(int connection, Board& board, const LinkToken& token) {
  BoardMemory& memory = board.memory();
  if (!SendAll(connection, EncodeBoard(board, token, WireRows::kThisHost, memory.reporter.load()))) return false;
  std::string in;
  char bytes[4096];
  for (;;) {
    const ssize_t count = recv(connection, bytes, sizeof bytes, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    in.append(bytes, static_cast<std::size_t>(count));
    const std::int64_t whole = MessageBytes(in, board, token);
    if (whole < 0) return false;
    if (whole == 0 || in.size() < static_cast<std::size_t>(whole)) continue;
    const WireHeader header = DecodeBoard(in, board);
    memory.job_reporter.store(header.reporter);
    return true;
  }
}

}  // namespace

StatusOr<std::unique_ptr<BoardLink>> BoardLink::Connect(Board* board, const Options& options) {
  in_addr numeric;
  if (inet_pton(AF_INET, options.address.c_str(), &numeric) != 1) {
    return InvalidArgument("the board's hub '", options.address, "' is not a numeric IPv4 address, like 10.0.0.1");
  }
  std::unique_ptr<BoardLink> link(new BoardLink);
  link->board_ = board;
  link->options_ = options;
  const std::int64_t start = MonotonicNs();
  for (;;) {
    link->socket_ = OpenConnection(options.address, options.port);
    if (link->socket_ >= 0 && Exchange(link->socket_, *board, options.token)) break;
    const std::string reason = link->socket_ < 0 ? std::strerror(errno) : "it does not answer, or with another token";
    if (link->socket_ >= 0) close(link->socket_);
    link->socket_ = -1;
    if (MonotonicNs() - start > options.patience_ns) {
      return absl::UnavailableError(absl::StrCat("the board's hub at ", options.address, ":", options.port, " cannot be reached: ", reason,
                                                 "; open that port range, or give a reachable address with watchdog.address"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  board->memory().link.store(BoardMemory::kLinked);
  link->thread_ = std::thread([self = link.get()] { self->Run(); });
  return link;
}

BoardLink::~BoardLink() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
  if (socket_ >= 0) close(socket_);
}

void BoardLink::Run() {
  std::int64_t next_ns = MonotonicNs();
  while (!stop_.load()) {
    if (MonotonicNs() < next_ns) {
      std::this_thread::sleep_for(kNap);
      continue;
    }
    next_ns = MonotonicNs() + kLinkPeriodNs;
    const bool anew = socket_ < 0;
    if (anew) socket_ = OpenConnection(options_.address, options_.port);
    if (socket_ >= 0 && Exchange(socket_, *board_, options_.token)) {
      board_->memory().link.store(BoardMemory::kLinked);
      continue;
    }
    if (anew) board_->memory().link.store(BoardMemory::kHubLost);
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }
  // The last word of this host: that its ranks have left.
  if (socket_ >= 0) Exchange(socket_, *board_, options_.token);
}

}  // namespace lycia
