// OrderCheck: do all ranks of a group call the same collectives in the same order? A mode for tests and for hunting a hang.
//
// Before each collective the ranks of its communicator tell each other which one they are at: its place in the communicator, its place
// among all of the rank's collectives, operation, tag, type and size. Where they differ, everything ends with a status that says both
// sides' places; a rank that does not come within the deadline ends it too. Costs one small all-gather a collective, counted under
// Tag::kSetup.
#ifndef LYCIA_RUNTIME_COMM_ORDER_CHECK_H_
#define LYCIA_RUNTIME_COMM_ORDER_CHECK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/comm/communicator.h"

namespace lycia {

// The collectives of one rank, over all of its checked communicators. Outlives them.
struct OrderLog {
  struct Entry {
    std::string communicator;
    std::int64_t place = 0;  // in the communicator, from 0
    Operation operation = Operation::kCount;
    Tag tag = Tag::kCount;
    DType dtype = DType::kU8;
    std::int64_t elements = 0;
    bool operator==(const Entry&) const = default;
    std::string ToString() const;  // "y 17: all-gather weight f64[96]"
  };
  std::vector<Entry> entries;
};

// `name`: of the communicator, in messages. Channels are not checked, nor are Split and Barrier.
std::unique_ptr<Communicator> CheckOrder(std::unique_ptr<Communicator> communicator, std::string name, OrderLog* log,
                                         std::int64_t deadline_ns = 60'000'000'000);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_ORDER_CHECK_H_
