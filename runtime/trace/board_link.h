// The board between hosts: one leader process a host exchanges rows with the first host over TCP, every kLinkPeriodNs.
//
// The first host's leader listens and its caller tells address(), port() and the token to the other hosts' leaders (through the job's own
// communicator, at set-up). Every message carries the token, and nothing without it is accepted: it keeps strangers out, it is no
// encryption. The wire carries ages, not times, so hosts need no common clock. A lost connection is opened again; meanwhile the rows of
// the silent host grow stale.
#ifndef LYCIA_RUNTIME_TRACE_BOARD_LINK_H_
#define LYCIA_RUNTIME_TRACE_BOARD_LINK_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "runtime/trace/board.h"

namespace lycia {

inline constexpr std::int64_t kLinkPeriodNs = 200'000'000;
using LinkToken = std::array<std::uint64_t, 2>;  // 128 random bits, the same for the job

// On the first host's leader.
class BoardHub {
 public:
  struct Options {
    std::string address = "127.0.0.1";  // numeric IPv4 address to bind
    int port = 0;                       // 0: any free one
    LinkToken token{};
    int hosts = 1;                      // at most so many links are kept
  };
  // `board` must outlive the hub. InvalidArgument or Unavailable with the address and the system's reason.
  static StatusOr<std::unique_ptr<BoardHub>> Listen(Board* board, const Options& options);
  ~BoardHub();
  int port() const { return port_; }

 private:
  BoardHub() = default;
  void Serve();

  Board* board_ = nullptr;
  Options options_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// On the leader of every other host.
class BoardLink {
 public:
  struct Options {
    std::string address;
    int port = 0;
    LinkToken token{};
    std::int64_t patience_ns = 10'000'000'000;  // of Connect
  };
  // Connects, or returns Unavailable when its patience is over. `board` must outlive the link.
  static StatusOr<std::unique_ptr<BoardLink>> Connect(Board* board, const Options& options);
  ~BoardLink();

 private:
  BoardLink() = default;
  void Run();

  Board* board_ = nullptr;
  Options options_;
  int socket_ = -1;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_TRACE_BOARD_LINK_H_
