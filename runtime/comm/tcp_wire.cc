#include "runtime/comm/tcp_wire.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "runtime/comm/socket.h"
#include "runtime/comm/tcp_connections.h"
#include "runtime/comm/tcp_peer.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr std::chrono::milliseconds kGoodbyePatience{2'000};

class TcpWire final : public Wire {
 public:
  TcpWire(int rank, std::vector<Socket> sockets, std::function<void(const Status&)> on_failure)
      : rank_(rank), on_failure_(std::move(on_failure)), peers_(sockets.size()), polled_(sockets.size()) {
    for (std::size_t r = 0; r < sockets.size(); ++r) peers_[r].socket = std::move(sockets[r]);
  }
  ~TcpWire() override {
    if (!abandoned_) SayGoodbye();
  }

  bool external() const override { return true; }
  std::int64_t max_tag() const override { return std::numeric_limits<std::int64_t>::max(); }
  std::int64_t max_message_bytes() const override { return std::numeric_limits<std::int64_t>::max(); }

  Port* Open(const PortName& name, int) override {
    TcpPort* port = PortAt(name);
    ++port->users;
    return port;
  }
  void Close(Port* port) override {
    auto* closed = static_cast<TcpPort*>(port);
    if (--closed->users == 0 && closed->granted.empty() && closed->announced.empty() && closed->sends.empty()) {
      ports_.erase(ports_.find(closed->name));
    }
  }

  void Send(Port* port, const void* data, std::int64_t bytes, bool, Request* request) override {
    auto* to = static_cast<TcpPort*>(port);
    *request = Request{.done = false, .bytes = bytes, .data = data, .port = port, .is_send = true};
    to->sends.push_back(request);
    if (to->name.to == rank_) return Meet(*to);
    TcpPeer& peer = peers_[static_cast<std::size_t>(to->name.to)];
    if (peer.left) return Fail(absl::UnavailableError(StrCat("rank ", to->name.to, " has left, and rank ", rank_, " sends to it")));
    peer.outgoing.Add({.record = {TcpRecord::kAnnounce, to->name.tag, bytes}});
  }
  void Receive(Port* port, void* data, std::int64_t bytes, Request* request) override {
    auto* from = static_cast<TcpPort*>(port);
    *request = Request{.done = false, .bytes = bytes, .data = data, .port = port};
    from->receives.push_back(request);
    from->name.from == rank_ ? Meet(*from) : Grant(*from);
  }
  void Borrow(Port* port, void* data, std::int64_t bytes, Request* request) override { Receive(port, data, bytes, request); }
  void GiveBack(Request*) override {}

  void Cancel(Request* request) override {
    if (request->done) return;
    auto* port = static_cast<TcpPort*>(request->port);
    std::erase(port->receives, request);
    if (port->name.from == port->name.to) std::erase(port->sends, request);
    std::replace(port->sends.begin(), port->sends.end(), request, static_cast<Request*>(nullptr));
    std::replace(port->granted.begin(), port->granted.end(), request, static_cast<Request*>(nullptr));
    if (request->is_send) Flush(request);
    request->done = true;
  }

  // Without a goodbye the others learn that this rank has failed.
  void Abandon() override {
    if (!status().ok() && on_failure_) on_failure_(status());
    abandoned_ = true;
    for (TcpPeer& peer : peers_) {
      if (!peer.socket.open()) continue;
      if (gone_ >= 0) peer.outgoing.WriteLast(peer.socket.fd(), {TcpRecord::kGone, gone_, 0});
      ::shutdown(peer.socket.fd(), SHUT_RDWR);
    }
  }

  bool Poll() override {
    if (!status().ok()) return false;
    std::size_t open = 0;
    for (std::size_t r = 0; r < peers_.size(); ++r) {
      const TcpPeer& peer = peers_[r];
      const short events = static_cast<short>((peer.left ? 0 : POLLIN) | (peer.outgoing.empty() ? 0 : POLLOUT));
      polled_[r] = {peer.socket.open() && events != 0 ? peer.socket.fd() : -1, events, 0};
      open += polled_[r].fd >= 0 ? 1 : 0;
    }
    if (open == 0 || ::poll(polled_.data(), polled_.size(), 0) <= 0) return false;
    bool moved = false;
    for (std::size_t r = 0; r < peers_.size() && status().ok(); ++r) {
      if (polled_[r].revents == 0) continue;
      if (!peers_[r].outgoing.empty()) moved |= Write(peers_[r], static_cast<int>(r));
      if (!peers_[r].left) moved |= Read(peers_[r], static_cast<int>(r));
    }
    return moved;
  }

 private:
  // ---- The end ----

  // Lets what was sent arrive, and waits, not for long, until the others have gone too: a connection closed before would cut them short.
  void SayGoodbye() {
    for (TcpPeer& peer : peers_) {
      if (peer.socket.open()) peer.outgoing.Add({.record = {TcpRecord::kGoodbye, 0, 0}});
    }
    const auto deadline = SocketClock::now() + kGoodbyePatience;
    const auto busy = [](const TcpPeer& peer) { return peer.socket.open() && (!peer.outgoing.empty() || !peer.left); };
    while (status().ok() && SocketClock::now() < deadline && std::any_of(peers_.begin(), peers_.end(), busy)) {
      if (Poll()) continue;
      constexpr timespec kNap{0, 100'000};
      ::nanosleep(&kNap, nullptr);
    }
  }

  // What is being written must be written whole, or the connection is of no more use.
  void Flush(const Request* request) {
    const auto deadline = SocketClock::now() + kGoodbyePatience;
    const auto writing = [&](const TcpPeer& peer) { return peer.outgoing.Holds(request); };
    while (status().ok() && std::any_of(peers_.begin(), peers_.end(), writing)) {
      if (SocketClock::now() > deadline) Fail(absl::UnavailableError("a message that was taken back could not be sent to its end"));
      Poll();
    }
  }

  // ---- Matching ----

  TcpPort* PortAt(const PortName& name) {
    std::unique_ptr<TcpPort>& port = ports_[name];
    if (port == nullptr) {
      port = std::make_unique<TcpPort>();
      port->name = name;
    }
    return port.get();
  }

  // Of a rank with itself.
  void Meet(TcpPort& port) {
    while (!port.sends.empty() && !port.receives.empty()) {
      Request *send = port.sends.front(), *receive = port.receives.front();
      if (!Fits(port, send->bytes, receive)) return;
      port.sends.pop_front();
      port.receives.pop_front();
      mover().Copy(const_cast<void*>(receive->data), send->data, send->bytes);
      receive->bytes = send->bytes;
      receive->done = send->done = true;
    }
  }

  void Grant(TcpPort& port) {
    while (!port.announced.empty() && !port.receives.empty()) {
      Request* receive = port.receives.front();
      if (!Fits(port, port.announced.front(), receive)) return;
      port.announced.pop_front();
      port.receives.pop_front();
      port.granted.push_back(receive);
      peers_[static_cast<std::size_t>(port.name.from)].outgoing.Add({.record = {TcpRecord::kGo, port.name.tag, 0}});
    }
  }

  bool Fits(const TcpPort& port, std::int64_t bytes, const Request* receive) {
    if (bytes <= receive->bytes) return true;
    Fail(absl::InternalError(StrCat("a message of ", bytes, " bytes from rank ", port.name.from, " to rank ", port.name.to, " (tag ",
                                    port.name.tag, ") met a receive of ", receive->bytes,
                                    " bytes: the two ranks disagree on an operation or its size")));
    return false;
  }

  // ---- Bytes ----

  bool Write(TcpPeer& peer, int r) {
    const StatusOr<bool> moved = peer.outgoing.Write(peer.socket.fd());
    if (moved.ok()) return *moved;
    if (peer.left) {  // it does not wait for anything any more
      peer.outgoing.Clear();
    } else {
      Fail(Annotate(moved.status(), StrCat("rank ", rank_, " cannot send to rank ", r)));
    }
    return false;
  }

  bool Read(TcpPeer& peer, int r) {
    bool moved = false;
    char bin[4096];
    while (!peer.left && status().ok()) {
      char* to = reinterpret_cast<char*>(&peer.record) + peer.record_read;
      std::size_t room = sizeof(TcpRecord) - peer.record_read;
      if (peer.port != nullptr) {
        Request* request = peer.port->granted.front();
        room = static_cast<std::size_t>(peer.record.bytes - peer.data_read);
        to = request != nullptr ? static_cast<char*>(const_cast<void*>(request->data)) + peer.data_read : bin;
        if (request == nullptr) room = std::min(room, sizeof bin);
      }
      const ssize_t some = ::recv(peer.socket.fd(), to, room, MSG_DONTWAIT);
      if (some < 0 && (errno == EAGAIN || errno == EINTR)) return moved;
      if (some <= 0) {
        Gone(r, rank_);
        return moved;
      }
      moved = true;
      if (peer.port != nullptr) {
        peer.data_read += some;
        if (peer.data_read == peer.record.bytes) EndData(peer);
      } else if ((peer.record_read += static_cast<std::size_t>(some)) == sizeof(TcpRecord)) {
        peer.record_read = 0;
        Take(peer, r);
      }
    }
    return moved;
  }

  // The others are told which rank it was: this one's connections are about to break as well.
  void Gone(int who, int seen_by) {
    if (gone_ < 0) gone_ = who;
    Fail(absl::UnavailableError(StrCat("rank ", who, " has ended in the middle of its work (seen by rank ", seen_by, ")")));
  }

  void EndData(TcpPeer& peer) {
    TcpPort* port = std::exchange(peer.port, nullptr);
    Request* request = port->granted.front();
    port->granted.pop_front();
    if (request == nullptr) return;
    request->bytes = peer.record.bytes;
    request->done = true;
  }

  void Take(TcpPeer& peer, int r) {
    const TcpRecord record = peer.record;
    switch (record.kind) {
      case TcpRecord::kAnnounce: {
        TcpPort* port = PortAt({r, rank_, record.tag});
        port->announced.push_back(record.bytes);
        return Grant(*port);
      }
      case TcpRecord::kGo: {
        TcpPort* port = PortAt({rank_, r, record.tag});
        if (port->sends.empty()) return Fail(absl::InternalError(StrCat("rank ", r, " asks for a message that was not announced")));
        Request* send = port->sends.front();
        port->sends.pop_front();
        if (send == nullptr) return Fail(absl::InternalError(StrCat("rank ", r, " wants a message that rank ", rank_, " has taken back")));
        return peer.outgoing.Add(
            {.record = {TcpRecord::kData, record.tag, send->bytes}, .data = static_cast<const char*>(send->data), .request = send});
      }
      case TcpRecord::kData: {
        TcpPort* port = PortAt({r, rank_, record.tag});
        if (port->granted.empty()) return Fail(absl::InternalError(StrCat("rank ", r, " sends what was not asked for")));
        peer.port = port;
        peer.data_read = 0;
        if (record.bytes == 0) EndData(peer);
        return;
      }
      case TcpRecord::kGoodbye:
        peer.left = true;
        return;
      case TcpRecord::kGone:
        return Gone(static_cast<int>(record.tag), r);
      default:
        return Fail(absl::DataLossError(StrCat("rank ", r, " sends noise")));
    }
  }

  const int rank_;
  const std::function<void(const Status&)> on_failure_;
  bool abandoned_ = false;
  int gone_ = -1;  // the first rank that was found to have ended
  std::map<PortName, std::unique_ptr<TcpPort>> ports_;
  std::vector<TcpPeer> peers_;  // by rank; this rank's own is unused
  std::vector<pollfd> polled_;
};

}  // namespace

StatusOr<std::unique_ptr<Wire>> OpenTcpWire(Bootstrap& bootstrap, const TcpWireOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(std::vector<Socket> sockets, ConnectAll(bootstrap, options.host, options.patience));
  return std::unique_ptr<Wire>(std::make_unique<TcpWire>(bootstrap.rank(), std::move(sockets), options.on_failure));
}

}  // namespace lycia
