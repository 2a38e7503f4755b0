// Counts what a thread takes from the heap through operator new. Linking it replaces the global operator new of the program.
#ifndef LYCIA_RUNTIME_DEVICE_TESTING_COUNT_ALLOCATIONS_H_
#define LYCIA_RUNTIME_DEVICE_TESTING_COUNT_ALLOCATIONS_H_

#include <cstdint>

namespace lycia::testing {

// Calls of operator new on this thread so far.
std::int64_t AllocationsOfThisThread();

}  // namespace lycia::testing

#endif  // LYCIA_RUNTIME_DEVICE_TESTING_COUNT_ALLOCATIONS_H_
