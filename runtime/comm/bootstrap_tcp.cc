// The bootstrap over TCP: rank 0 listens, hears every rank and tells everyone. A message is its length (8 bytes, this machine's order) and
// its bytes; an answer of rank 0 begins with '+', or with the sign of a failure before its words.
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <cstring>
#include <sstream>
#include <utility>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/socket.h"

namespace lycia {
namespace {

using Clock = SocketClock;
constexpr char kMagic[] = "LYCIABOOT1";
constexpr std::chrono::milliseconds kHelloPatience{2'000};   // a stranger must not hold up the ranks behind it for long
constexpr std::chrono::milliseconds kAnswerPatience{5'000};  // rank 0 tells of its deadline a moment after it

// How rank 0 tells the others of a failure.
char SignOf(const Status& status) {
  if (absl::IsDeadlineExceeded(status)) return '!';
  return absl::IsInvalidArgument(status) ? '-' : '~';
}
Status FromSign(char sign, std::string_view words) {
  if (sign == '!') return absl::DeadlineExceededError(StrCat(words));
  return sign == '-' ? InvalidArgument(words) : absl::UnavailableError(StrCat(words));
}

class TcpBootstrap final : public Bootstrap {
 public:
  TcpBootstrap(std::string host, int port, const BootstrapOptions& options)
      : host_(std::move(host)), port_(port), options_(options), peers_(static_cast<std::size_t>(options.size)) {}

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  // A rank that has come to rank 0 without leaving the machine is on rank 0's, and is reached as rank 0 is.
  std::string address() const override { return address_.empty() ? host_ : address_; }
  Status Open() { return rank() == 0 ? Listen() : Connect(); }

  StatusOr<std::vector<std::string>> Exchange(std::string_view what, std::string_view mine) override {
    return rank() == 0 ? Collect(what, mine) : Give(what, mine);
  }

 private:
  std::uint64_t MostBytes() const { return static_cast<std::uint64_t>(kMostBytes + 64) * static_cast<std::uint64_t>(size()); }
  Clock::time_point Deadline() const { return Clock::now() + options_.patience; }
  std::string Place() const { return StrCat(host_, ":", port_); }

  Status Missing(std::string_view what, std::span<const int> ranks) const {
    return absl::DeadlineExceededError(StrCat("rank ", rank(), " of ", size(), " waited ", options_.patience.count(), " ms at ", Place(),
                                              " (", what, ") for ", RankList(ranks),
                                              "; did they start, and does the network let them through?"));
  }

  // ---- Rank 0 ----

  Status Listen() {
    const Clock::time_point deadline = Deadline();
    int port = port_;
    const StatusOr<Socket> listener = ListenAt(&port);
    if (!listener.ok()) return Annotate(listener.status(), "rank 0 (another job? choose another port)");
    while (true) {
      std::vector<int> missing;
      for (int r = 1; r < size(); ++r) {
        if (!peers_[static_cast<std::size_t>(r)].open()) missing.push_back(r);
      }
      if (missing.empty()) return Answer("+");
      if (const Status waited = AwaitSocket(listener->fd(), POLLIN, deadline); !waited.ok()) {
        const Status failed = absl::IsDeadlineExceeded(waited) ? Missing("meeting", missing) : waited;
        (void)Tell(failed);
        return failed;
      }
      StatusOr<Socket> peer = AcceptFrom(*listener);
      if (!peer.ok()) {
        (void)Tell(peer.status());
        return Annotate(peer.status(), "rank 0");
      }
      Greet(*std::move(peer));
    }
  }

  // Keeps the connection of a rank of this job; a rank that comes again replaces itself.
  void Greet(Socket peer) {
    if (!peer.open()) return;
    const StatusOr<std::string> hello = ReceiveMessage(peer.fd(), 4096, Clock::now() + kHelloPatience);
    if (!hello.ok()) return;
    std::istringstream words(*hello);
    std::string magic, job;
    int r = 0, ranks = 0;
    words >> magic >> job >> r >> ranks;
    std::string refusal;
    if (magic != kMagic) return;
    if (job != options_.job) refusal = StrCat("this is job ", options_.job, ", not ", job);
    if (ranks != size()) refusal = StrCat("rank ", r, " was told of ", ranks, " ranks and rank 0 of ", size());
    if (!words || r < 1 || r >= size()) refusal = StrCat("there is no rank ", r, " of ", size());
    if (!refusal.empty()) {
      (void)SendMessage(peer.fd(), StrCat("-", refusal), Clock::now() + kHelloPatience);
      return;
    }
    peers_[static_cast<std::size_t>(r)] = std::move(peer);
  }

  Status Answer(std::string_view message) {
    Status first;
    for (int r = 1; r < size(); ++r) {
      const Socket& peer = peers_[static_cast<std::size_t>(r)];
      if (!peer.open()) continue;
      const Status sent = SendMessage(peer.fd(), message, Clock::now() + options_.patience);
      if (first.ok()) first = Annotate(sent, StrCat("rank ", r));
    }
    return first;
  }

  Status Tell(const Status& failure) { return Answer(StrCat(std::string(1, SignOf(failure)), failure.message())); }

  StatusOr<std::vector<std::string>> Collect(std::string_view what, std::string_view mine) {
    const Clock::time_point deadline = Deadline();
    std::vector<std::string> values = {std::string(mine)};
    std::vector<int> missing;
    Status broken;
    for (int r = 1; r < size(); ++r) {
      StatusOr<std::string> value = ReceiveMessage(peers_[static_cast<std::size_t>(r)].fd(), kMostBytes, deadline);
      if (value.ok()) {
        values.push_back(*std::move(value));
      } else if (absl::IsDeadlineExceeded(value.status())) {
        missing.push_back(r);
      } else if (broken.ok()) {
        broken = absl::UnavailableError(StrCat("rank ", r, " left (", what, "): ", value.status().message()));
      }
    }
    if (!missing.empty()) broken = Missing(what, missing);
    if (!broken.ok()) {
      (void)Tell(broken);
      return broken;
    }
    std::string all = "+";
    for (const std::string& value : values) {
      const std::uint64_t length = value.size();
      all.append(reinterpret_cast<const char*>(&length), sizeof length);
      all += value;
    }
    LYCIA_RETURN_IF_ERROR(Answer(all));
    return values;
  }

  // ---- The others ----

  Status Connect() {
    const Clock::time_point deadline = Deadline();
    Status last = absl::UnavailableError("not tried");
    while (Clock::now() < deadline) {
      last = Try(deadline);
      if (last.ok() || absl::IsInvalidArgument(last) || absl::IsDeadlineExceeded(last) || absl::IsResourceExhausted(last)) return last;
      constexpr timespec kNap{0, 20'000'000};  // rank 0 may not be there yet
      ::nanosleep(&kNap, nullptr);
    }
    const int leader = 0;
    return Annotate(Missing("meeting", {&leader, 1}), StrCat("no answer (", last.message(), ")"));
  }

  Status Try(Clock::time_point deadline) {
    LYCIA_ASSIGN_OR_RETURN(peers_[0], ConnectTo(host_, port_, deadline));
    LYCIA_RETURN_IF_ERROR(SendMessage(peers_[0].fd(), StrCat(kMagic, " ", options_.job, " ", rank(), " ", size()), deadline));
    LYCIA_RETURN_IF_ERROR(Hear("meeting").status());
    address_ = AddressOfThisEnd(peers_[0]);
    return OkStatus();
  }

  // Rank 0's answer without its sign.
  StatusOr<std::string> Hear(std::string_view what) {
    StatusOr<std::string> answer = ReceiveMessage(peers_[0].fd(), MostBytes(), Deadline() + kAnswerPatience);
    if (absl::IsDeadlineExceeded(answer.status())) {
      const int leader = 0;
      return Missing(what, {&leader, 1});
    }
    if (!answer.ok()) return absl::UnavailableError(StrCat("rank 0 at ", Place(), " left (", what, "): ", answer.status().message()));
    if (answer->empty()) return absl::InternalError(StrCat("rank 0 at ", Place(), " sent an empty answer"));
    if ((*answer)[0] != '+') return FromSign((*answer)[0], StrCat("rank 0 at ", Place(), ": ", answer->substr(1)));
    return answer->substr(1);
  }

  StatusOr<std::vector<std::string>> Give(std::string_view what, std::string_view mine) {
    LYCIA_RETURN_IF_ERROR(Annotate(SendMessage(peers_[0].fd(), mine, Deadline()), StrCat("rank 0 at ", Place(), " (", what, ")")));
    LYCIA_ASSIGN_OR_RETURN(const std::string all, Hear(what));
    std::vector<std::string> values;
    for (std::size_t at = 0; at + sizeof(std::uint64_t) <= all.size();) {
      std::uint64_t length = 0;
      std::memcpy(&length, all.data() + at, sizeof length);
      at += sizeof length;
      values.push_back(all.substr(at, length));
      at += length;
    }
    return values;
  }

  const std::string host_;
  const int port_;
  const BootstrapOptions options_;
  std::string address_;        // of this machine; empty: rank 0's
  std::vector<Socket> peers_;  // rank 0: by rank; the others: rank 0
};

}  // namespace

StatusOr<std::unique_ptr<Bootstrap>> OpenTcpBootstrap(const std::string& host, int port, const BootstrapOptions& options) {
  auto bootstrap = std::make_unique<TcpBootstrap>(host, port, options);
  LYCIA_RETURN_IF_ERROR(CheckJobName(options.job));
  LYCIA_RETURN_IF_ERROR(bootstrap->Open());
  return std::unique_ptr<Bootstrap>(std::move(bootstrap));
}

}  // namespace lycia
