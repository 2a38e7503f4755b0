// What hosts tell each other about a board. Only for board_hub.cc and board_link.cc.
//
// A message is one WireHeader and `rows` WireRows in the sender's byte order (the magic tells a foreign one). Rows carry ages; the receiver
// subtracts them from its own clock, so a message on its way makes a rank look up to its delay younger, never older.
#ifndef LYCIA_RUNTIME_TRACE_BOARD_WIRE_H_
#define LYCIA_RUNTIME_TRACE_BOARD_WIRE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/trace/board.h"
#include "runtime/trace/board_link.h"

namespace lycia {

struct WireHeader {
  static constexpr std::uint64_t kMagic = 0x4C59434941574231;  // "LYCIAWB1"

  std::uint64_t magic = kMagic;
  LinkToken token{};
  std::int64_t ranks = 0;     // of the job; must be the receiver's
  std::int64_t rows = 0;      // that follow
  std::int64_t reporter = 0;  // 1 + rank that claims the report (to the hub), that may print it (from the hub); 0: none
  std::int64_t reported = 0;  // 1: it has been printed
};

// The rows that this host's ranks write, or all that are known.
enum class WireRows { kThisHost, kAll };
std::string EncodeBoard(Board& board, const LinkToken& token, WireRows which, std::int64_t reporter);

// Bytes of the message that `bytes` begins with; 0: its header is not there yet; -1: not a message of this job, close the connection.
std::int64_t MessageBytes(std::string_view bytes, const Board& board, const LinkToken& token);

// Takes the rows of a whole message into the board, but for those that ranks of this host write, and returns its header.
WireHeader DecodeBoard(std::string_view message, Board& board);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_TRACE_BOARD_WIRE_H_
