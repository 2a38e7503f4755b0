#include "runtime/comm/tcp_wire.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "runtime/comm/socket.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

// Before everything that goes over a connection.
struct Record {
  enum Kind : std::int64_t { kAnnounce, kGo, kData, kGoodbye };
  std::int64_t kind = kGoodbye;
  std::int64_t tag = 0;
  std::int64_t bytes = 0;  // of the message
};

constexpr std::chrono::milliseconds kGoodbyePatience{2'000};

struct TcpPort final : Wire::Port {
  Wire::PortName name;
  int users = 0;
  std::deque<Wire::Request*> sends;     // announced, not yet asked for; null: cancelled
  std::deque<Wire::Request*> receives;  // posted, not yet granted
  std::deque<Wire::Request*> granted;   // their bytes are on the way; null: cancelled, to be thrown away
  std::deque<std::int64_t> announced;   // by the peer, not yet granted
};

struct Peer {
  Socket socket;
  bool left = false;  // said goodbye
  // Outgoing: records and the bytes behind them.
  struct Outgoing {
    Record record;
    const char* data = nullptr;
    Wire::Request* request = nullptr;  // done once all is written
  };
  std::deque<Outgoing> outgoing;
  std::size_t written = 0;  // of the first
  // Incoming.
  Record record;
  std::size_t record_read = 0;
  TcpPort* port = nullptr;  // of the data being read
  std::int64_t data_read = 0;
};

class TcpWire final : public Wire {
 public:
  TcpWire(int rank, int size) : rank_(rank), peers_(static_cast<std::size_t>(size)), polled_(peers_.size()) {}
  ~TcpWire() override {
    if (!abandoned_) SayGoodbye();
  }

  Status Connect(Bootstrap& bootstrap, const std::string& host, std::chrono::milliseconds patience) {
    const auto deadline = SocketClock::now() + patience;
    int port = 0;
    LYCIA_ASSIGN_OR_RETURN(const Socket listener, ListenAt(&port));
    std::random_device random;
    // Rank 0's number lets strangers be told from ranks.
    const std::string mine = StrCat(host, " ", port, " ", random(), random(), random(), random());
    LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> places, bootstrap.Exchange("TCP addresses", mine));
    const std::string token = places[0].substr(places[0].rfind(' ') + 1);
    for (int r = 0; r < rank_; ++r) {
      const std::string& place = places[static_cast<std::size_t>(r)];
      const std::string at = place.substr(0, place.find(' '));
      StatusOr<Socket> reached = Reach(at, std::atoi(place.c_str() + at.size()), deadline);
      if (!reached.ok())
        return Annotate(reached.status(), StrCat("rank ", rank_, " to rank ", r, " at ", place.substr(0, place.rfind(' '))));
      Socket& socket = peers_[static_cast<std::size_t>(r)].socket;
      socket = *std::move(reached);
      LYCIA_RETURN_IF_ERROR(SendMessage(socket.fd(), StrCat(token, " ", rank_), deadline));
    }
    return Accept(listener, token, deadline);
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
    Peer& peer = peers_[static_cast<std::size_t>(to->name.to)];
    if (peer.left) return Fail(absl::UnavailableError(StrCat("rank ", to->name.to, " has left, and rank ", rank_, " sends to it")));
    Queue(peer, {.record = {Record::kAnnounce, to->name.tag, bytes}});
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
    abandoned_ = true;
    for (Peer& peer : peers_) {
      if (peer.socket.open()) ::shutdown(peer.socket.fd(), SHUT_RDWR);
    }
  }

  bool Poll() override {
    if (!status().ok()) return false;
    std::size_t open = 0;
    for (std::size_t r = 0; r < peers_.size(); ++r) {
      const Peer& peer = peers_[r];
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
  // ---- Connections ----

  static StatusOr<Socket> Reach(const std::string& host, int port, SocketClock::time_point deadline) {
    while (true) {
      StatusOr<Socket> socket = ConnectTo(host, port, deadline);
      if (socket.ok() || SocketClock::now() > deadline) return socket;
      constexpr timespec kNap{0, 20'000'000};
      ::nanosleep(&kNap, nullptr);
    }
  }

  Status Accept(const Socket& listener, const std::string& token, SocketClock::time_point deadline) {
    while (true) {
      std::vector<int> missing;
      for (int r = rank_ + 1; r < static_cast<int>(peers_.size()); ++r) {
        if (!peers_[static_cast<std::size_t>(r)].socket.open()) missing.push_back(r);
      }
      if (missing.empty()) return OkStatus();
      if (const Status waited = AwaitSocket(listener.fd(), POLLIN, deadline); !waited.ok()) {
        return absl::DeadlineExceededError(
            StrCat("rank ", rank_, " waited for the TCP connections of ", RankList(missing), "; does the network let them through?"));
      }
      Socket peer = AcceptFrom(listener);
      if (!peer.open()) continue;
      const StatusOr<std::string> hello = ReceiveMessage(peer.fd(), 4096, std::min(deadline, SocketClock::now() + kGoodbyePatience));
      if (!hello.ok() || hello->compare(0, token.size() + 1, token + " ") != 0) continue;  // a stranger
      const int r = std::atoi(hello->c_str() + token.size() + 1);
      if (r > rank_ && r < static_cast<int>(peers_.size())) peers_[static_cast<std::size_t>(r)].socket = std::move(peer);
    }
  }

  // Lets what was sent arrive, and waits, not for long, until the others have gone too: a connection closed before would cut them short.
  void SayGoodbye() {
    for (Peer& peer : peers_) {
      if (peer.socket.open()) Queue(peer, {.record = {Record::kGoodbye, 0, 0}});
    }
    const auto deadline = SocketClock::now() + kGoodbyePatience;
    const auto busy = [](const Peer& peer) { return peer.socket.open() && (!peer.outgoing.empty() || !peer.left); };
    while (status().ok() && SocketClock::now() < deadline && std::any_of(peers_.begin(), peers_.end(), busy)) {
      if (Poll()) continue;
      constexpr timespec kNap{0, 100'000};
      ::nanosleep(&kNap, nullptr);
    }
  }

  // What is being written must be written whole, or the connection is of no more use.
  void Flush(const Request* request) {
    const auto deadline = SocketClock::now() + kGoodbyePatience;
    const auto writing = [&](const Peer& peer) {
      return std::any_of(peer.outgoing.begin(), peer.outgoing.end(), [&](const auto& outgoing) { return outgoing.request == request; });
    };
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

  void Queue(Peer& peer, const Peer::Outgoing& outgoing) { peer.outgoing.push_back(outgoing); }

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
      Queue(peers_[static_cast<std::size_t>(port.name.from)], {.record = {Record::kGo, port.name.tag, 0}});
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

  bool Write(Peer& peer, int r) {
    bool moved = false;
    while (!peer.outgoing.empty()) {
      Peer::Outgoing& first = peer.outgoing.front();
      const bool head = peer.written < sizeof(Record);
      const std::size_t all = sizeof(Record) + (first.data == nullptr ? 0 : static_cast<std::size_t>(first.record.bytes));
      const char* from = head ? reinterpret_cast<const char*>(&first.record) + peer.written : first.data + (peer.written - sizeof(Record));
      const ssize_t some = ::send(peer.socket.fd(), from, (head ? sizeof(Record) : all) - peer.written, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (some < 0 && (errno == EAGAIN || errno == EINTR)) return moved;
      if (some < 0 && peer.left) {  // it does not wait for anything any more
        peer.outgoing.clear();
        return moved;
      }
      if (some < 0) {
        Fail(SocketError(StrCat("rank ", rank_, " cannot send to rank ", r)));
        return moved;
      }
      moved = true;
      peer.written += static_cast<std::size_t>(some);
      if (peer.written < all) continue;
      if (first.request != nullptr) first.request->done = true;
      peer.outgoing.pop_front();
      peer.written = 0;
    }
    return moved;
  }

  bool Read(Peer& peer, int r) {
    bool moved = false;
    char bin[4096];
    while (!peer.left && status().ok()) {
      char* to = reinterpret_cast<char*>(&peer.record) + peer.record_read;
      std::size_t room = sizeof(Record) - peer.record_read;
      if (peer.port != nullptr) {
        Request* request = peer.port->granted.front();
        room = static_cast<std::size_t>(peer.record.bytes - peer.data_read);
        to = request != nullptr ? static_cast<char*>(const_cast<void*>(request->data)) + peer.data_read : bin;
        if (request == nullptr) room = std::min(room, sizeof bin);
      }
      const ssize_t some = ::recv(peer.socket.fd(), to, room, MSG_DONTWAIT);
      if (some < 0 && (errno == EAGAIN || errno == EINTR)) return moved;
      if (some <= 0) {
        Fail(absl::UnavailableError(StrCat("rank ", r, " has ended in the middle of its work (seen by rank ", rank_, ")")));
        return moved;
      }
      moved = true;
      if (peer.port != nullptr) {
        peer.data_read += some;
        if (peer.data_read == peer.record.bytes) EndData(peer);
      } else if ((peer.record_read += static_cast<std::size_t>(some)) == sizeof(Record)) {
        peer.record_read = 0;
        Take(peer, r);
      }
    }
    return moved;
  }

  void EndData(Peer& peer) {
    TcpPort* port = std::exchange(peer.port, nullptr);
    Request* request = port->granted.front();
    port->granted.pop_front();
    if (request == nullptr) return;
    request->bytes = peer.record.bytes;
    request->done = true;
  }

  void Take(Peer& peer, int r) {
    const Record record = peer.record;
    switch (record.kind) {
      case Record::kAnnounce: {
        TcpPort* port = PortAt({r, rank_, record.tag});
        port->announced.push_back(record.bytes);
        return Grant(*port);
      }
      case Record::kGo: {
        TcpPort* port = PortAt({rank_, r, record.tag});
        if (port->sends.empty()) return Fail(absl::InternalError(StrCat("rank ", r, " asks for a message that was not announced")));
        Request* send = port->sends.front();
        port->sends.pop_front();
        if (send == nullptr) return Fail(absl::InternalError(StrCat("rank ", r, " wants a message that rank ", rank_, " has taken back")));
        return Queue(peer,
                     {.record = {Record::kData, record.tag, send->bytes}, .data = static_cast<const char*>(send->data), .request = send});
      }
      case Record::kData: {
        TcpPort* port = PortAt({r, rank_, record.tag});
        if (port->granted.empty()) return Fail(absl::InternalError(StrCat("rank ", r, " sends what was not asked for")));
        peer.port = port;
        peer.data_read = 0;
        if (record.bytes == 0) EndData(peer);
        return;
      }
      case Record::kGoodbye:
        peer.left = true;
        return;
      default:
        return Fail(absl::DataLossError(StrCat("rank ", r, " sends noise")));
    }
  }

  const int rank_;
  bool abandoned_ = false;
  std::map<PortName, std::unique_ptr<TcpPort>> ports_;
  std::vector<Peer> peers_;  // by rank; this rank's own is unused
  std::vector<pollfd> polled_;
};

}  // namespace

StatusOr<std::unique_ptr<Wire>> OpenTcpWire(Bootstrap& bootstrap, const std::string& host, std::chrono::milliseconds patience) {
  auto wire = std::make_unique<TcpWire>(bootstrap.rank(), bootstrap.size());
  LYCIA_RETURN_IF_ERROR(wire->Connect(bootstrap, host, patience));
  return std::unique_ptr<Wire>(std::move(wire));
}

}  // namespace lycia
