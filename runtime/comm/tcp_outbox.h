// What waits to be written to one TCP connection of the wire, and in which form.
#ifndef LYCIA_RUNTIME_COMM_TCP_OUTBOX_H_
#define LYCIA_RUNTIME_COMM_TCP_OUTBOX_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "runtime/comm/wire.h"
#include "runtime/core/status.h"

namespace lycia {

// Before everything that goes over a connection.
struct TcpRecord {
  enum Kind : std::int64_t { kAnnounce, kGo, kData, kGoodbye, kGone };
  std::int64_t kind = kGoodbye;
  std::int64_t tag = 0;    // kGone: the rank that has ended
  std::int64_t bytes = 0;  // of the message
};

class TcpOutbox {
 public:
  struct Item {
    TcpRecord record;
    const char* data = nullptr;        // record.bytes, behind the record; null: none
    Wire::Request* request = nullptr;  // done once all is written; may be null
  };
  void Add(const Item& item) { items_.push_back(item); }
  bool empty() const { return items_.empty(); }
  bool Holds(const Wire::Request* request) const;
  void Clear() { items_.clear(); }

  // Writes what the connection takes now; true if that was anything. Unavailable: the connection broke.
  StatusOr<bool> Write(int fd);
  // The last word, past everything that waits, where that does not tear a message: nothing else is written afterwards.
  void WriteLast(int fd, const TcpRecord& record);

 private:
  std::deque<Item> items_;
  std::size_t written_ = 0;  // of the first
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_OUTBOX_H_
