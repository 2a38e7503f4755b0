// Where the ranks of a job meet when no MPI brings them together.
#ifndef LYCIA_LAUNCH_RENDEZVOUS_H_
#define LYCIA_LAUNCH_RENDEZVOUS_H_

#include <functional>
#include <string>
#include <string_view>

#include "runtime/core/status.h"

namespace lycia {

// Reads a variable of the environment: null where it is not set. Tests bring one of their own.
using Environment = std::function<const char*(const char* name)>;
Environment ProcessEnvironment();

struct Rendezvous {
  std::string host;    // of rank 0, as the others reach it
  int port = 0;        // at which rank 0 listens until all have come
  std::string folder;  // not empty: files of this folder instead, which all ranks see

  std::string ToString() const;  // as ParseRendezvous reads it
  bool operator==(const Rendezvous&) const = default;
};

// "tcp://node1:29500", "tcp://[fe80::1]:29500" or "file:/shared/folder". InvalidArgument says what is wrong with it.
StatusOr<Rendezvous> ParseRendezvous(std::string_view text);

// Of the step that srun started this process in: its first host (MASTER_ADDR instead, where set), at the first of its reserved ports
// (srun --resv-ports) or, without, at one that follows from job and step (MASTER_PORT instead, where set).
StatusOr<Rendezvous> SlurmRendezvous(const Environment& environment);

// The first host of a list as Slurm writes it: "node[07-12,14],gpu3" has node07.
StatusOr<std::string> FirstHost(std::string_view list);

// A port number. `name`: of what it was read from, for the message.
StatusOr<int> ParsePort(std::string_view name, std::string_view text);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_RENDEZVOUS_H_
