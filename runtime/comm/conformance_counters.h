// Counted work and what its counters must say, by the formulas of the interface; holds for a dry run of any size too.
#ifndef LYCIA_RUNTIME_COMM_CONFORMANCE_COUNTERS_H_
#define LYCIA_RUNTIME_COMM_CONFORMANCE_COUNTERS_H_

#include "runtime/comm/communicator.h"

namespace lycia::conformance {

// One of each operation, on a communicator that has counted nothing yet. Collective.
Status DoCountedWork(Communicator& communicator);
Status CheckCountedWork(const Communicator& communicator);

}  // namespace lycia::conformance

#endif  // LYCIA_RUNTIME_COMM_CONFORMANCE_COUNTERS_H_
