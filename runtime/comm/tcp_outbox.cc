#include "runtime/comm/tcp_outbox.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "runtime/comm/socket.h"

namespace lycia {

bool TcpOutbox::Holds(const Wire::Request* request) const {
  return std::any_of(items_.begin(), items_.end(), [&](const Item& item) { return item.request == request; });
}

StatusOr<bool> TcpOutbox::Write(int fd) {
  bool moved = false;
  while (!items_.empty()) {
    const Item& first = items_.front();
    const bool head = written_ < sizeof(TcpRecord);
    const std::size_t all = sizeof(TcpRecord) + (first.data == nullptr ? 0 : static_cast<std::size_t>(first.record.bytes));
    const char* from = head ? reinterpret_cast<const char*>(&first.record) + written_ : first.data + (written_ - sizeof(TcpRecord));
    const ssize_t some = ::send(fd, from, (head ? sizeof(TcpRecord) : all) - written_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (some < 0 && (errno == EAGAIN || errno == EINTR)) return moved;
    if (some < 0) return SocketError("the connection broke");
    moved = true;
    written_ += static_cast<std::size_t>(some);
    if (written_ < all) continue;
    if (first.request != nullptr) first.request->done = true;
    items_.pop_front();
    written_ = 0;
  }
  return moved;
}

void TcpOutbox::WriteLast(int fd, const TcpRecord& record) {
  if (written_ == 0) (void)::send(fd, &record, sizeof record, MSG_NOSIGNAL | MSG_DONTWAIT);
  items_.clear();
}

}  // namespace lycia
