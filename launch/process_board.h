// The board of a job whose ranks are processes: shared memory on each host, links from the leader (lowest rank) of each host to rank 0's.
#ifndef LYCIA_LAUNCH_PROCESS_BOARD_H_
#define LYCIA_LAUNCH_PROCESS_BOARD_H_

#include <memory>
#include <string>
#include <vector>

#include "runtime/comm/communicator.h"
#include "runtime/trace/board.h"
#include "runtime/trace/board_link.h"

namespace lycia {

std::string HostName();
// Collective: the host name of every rank, by rank.
StatusOr<std::vector<std::string>> GatherHosts(Communicator& world);

class ProcessBoard {
 public:
  struct Options {
    std::string address;     // numeric IPv4, at which rank 0 listens for the leaders of other hosts; "": the following one's
    std::string rendezvous;  // host name or address under which all have found rank 0; "": that of its host name
  };
  // Collective. Unavailable where a host has no shared memory, or cannot reach rank 0's.
  Status Open(Communicator& world, const Options& options);
  Board* board() { return board_.get(); }
  // Before the end of a job that failed: while rank 0 is still there, the other hosts settle who tells of it.
  void Linger() const;

 private:
  std::unique_ptr<Board> board_;
  std::unique_ptr<BoardHub> hub_;
  std::unique_ptr<BoardLink> link_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_PROCESS_BOARD_H_
