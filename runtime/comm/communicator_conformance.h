// One suite for every transport that moves data. A case is called by all ranks of a world, of any size, and says what went wrong.
#ifndef LYCIA_RUNTIME_COMM_COMMUNICATOR_CONFORMANCE_H_
#define LYCIA_RUNTIME_COMM_COMMUNICATOR_CONFORMANCE_H_

#include <span>
#include <string_view>
#include <vector>

#include "runtime/comm/communicator.h"

namespace lycia {

struct ConformanceCase {
  std::string_view name;
  Status (*run)(Communicator& world);
  bool large = false;  // moves tens of megabytes
};

std::vector<ConformanceCase> AllConformanceCases();

namespace internal {  // the parts that have files of their own
std::span<const ConformanceCase> SumCases();
std::span<const ConformanceCase> ChannelCases();
}  // namespace internal

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_COMMUNICATOR_CONFORMANCE_H_
