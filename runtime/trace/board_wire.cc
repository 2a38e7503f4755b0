#include "runtime/trace/board_wire.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "runtime/trace/board_memory.h"

namespace lycia {
namespace {

struct WireRow {
  std::int64_t rank, state, pid, step;
  std::int64_t instruction_age_ns, wait_age_ns, wait_seen_age_ns, heartbeat_age_ns;  // wait_seen_age_ns < 0: no wait
  char instruction[Board::kInstructionBytes + 1];
  char host[32];
};
static_assert(std::is_trivially_copyable_v<WireHeader> && std::is_trivially_copyable_v<WireRow>);

template <std::size_t kBytes>
void CopyText(const std::string& text, char (&to)[kBytes]) {
  std::memset(to, 0, kBytes);
  text.copy(to, kBytes - 1);
}

template <std::size_t kBytes>
std::string TextOf(const char (&from)[kBytes]) {
  return std::string(from, strnlen(from, kBytes));
}

}  // namespace

std::string EncodeBoard(Board& board, const LinkToken& token, WireRows which, std::int64_t reporter) {
  BoardMemory& memory = board.memory();
  WireHeader header{.token = token, .ranks = board.ranks(), .reporter = reporter, .reported = memory.reported.load()};
  std::string bytes(sizeof header, '\0');
  for (int rank = 0; rank < board.ranks(); ++rank) {
    const RowCopy copy = ReadRow(memory.rows[rank]);
    if (copy.origin == RowOrigin::kNobody || (which == WireRows::kThisHost && copy.origin != RowOrigin::kThisHost)) continue;
    const std::int64_t now = MonotonicNs();
    WireRow row{.rank = rank,
                .state = static_cast<std::int64_t>(copy.state),
                .pid = copy.pid,
                .step = copy.step,
                .instruction_age_ns = now - copy.instruction_since_ns,
                .wait_age_ns = now - copy.wait_since_ns,
                .wait_seen_age_ns = copy.wait_seen_ns == 0 ? -1 : std::max<std::int64_t>(now - copy.wait_seen_ns, 0),
                .heartbeat_age_ns = now - copy.heartbeat_ns,
                .instruction = {},
                .host = {}};
    CopyText(copy.instruction, row.instruction);
    CopyText(copy.host, row.host);
    bytes.append(reinterpret_cast<const char*>(&row), sizeof row);
    ++header.rows;
  }
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

std::int64_t MessageBytes(std::string_view bytes, const Board& board, const LinkToken& token) {
  WireHeader header;
  if (bytes.size() < sizeof header) return 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  // The whole token is looked at, whatever its first difference, so that the time of a refusal tells nothing.
  const std::uint64_t difference = (header.token[0] ^ token[0]) | (header.token[1] ^ token[1]);
  if (header.magic != WireHeader::kMagic || difference != 0 || header.ranks != board.ranks() || header.rows < 0 ||
      header.rows > header.ranks) {
    return -1;
  }
  return static_cast<std::int64_t>(sizeof header + static_cast<std::size_t>(header.rows) * sizeof(WireRow));
}

WireHeader DecodeBoard(std::string_view message, Board& board) {
  WireHeader header;
  std::memcpy(&header, message.data(), sizeof header);
  const std::int64_t now = MonotonicNs();
  for (std::int64_t i = 0; i < header.rows; ++i) {
    WireRow row;
    std::memcpy(&row, message.data() + sizeof header + static_cast<std::size_t>(i) * sizeof row, sizeof row);
    if (row.rank < 0 || row.rank >= board.ranks() || row.state < 0 || row.state > static_cast<std::int64_t>(RankState::kLeft)) continue;
    AtomicRow& mine = board.memory().rows[row.rank];
    if (static_cast<RowOrigin>(mine.origin.load()) == RowOrigin::kThisHost) continue;
    WriteRow(mine, {.instruction = TextOf(row.instruction),
                    .host = TextOf(row.host),
                    .step = row.step,
                    .instruction_since_ns = now - row.instruction_age_ns,
                    .wait_since_ns = now - row.wait_age_ns,
                    .wait_seen_ns = row.wait_seen_age_ns < 0 ? 0 : now - row.wait_seen_age_ns,
                    .heartbeat_ns = now - row.heartbeat_age_ns,
                    .pid = row.pid,
                    .state = static_cast<RankState>(row.state),
                    .origin = RowOrigin::kOtherHost});
  }
  if (header.reported != 0) board.ReportDone();
  return header;
}

}  // namespace lycia
