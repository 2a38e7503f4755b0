// The closed forms of docs/tensor_grid.md, as the tests hold them against the counters of every communicator.
#ifndef LYCIA_TESTS_GRID_GRID_BYTES_FOR_TEST_H_
#define LYCIA_TESTS_GRID_GRID_BYTES_FOR_TEST_H_

#include <map>
#include <string>

#include "parallel/grid/grid.h"
#include "tests/grid/grid_rank_for_test.h"
#include "tests/grid/traffic_for_test.h"

namespace lycia {

// By "group tag operation": logical bytes of one rank in one step of `c` with elements of `element` bytes, `steps` steps.
std::map<std::string, Counter> ExpectedTraffic(const Grid& grid, const GridCase& c, std::int64_t element, int steps);
// Internal error naming the first counter that differs; nothing may be counted that the forms do not have.
Status CompareBytes(const Grid& grid, const GridCase& c, std::int64_t element, int steps);

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_GRID_BYTES_FOR_TEST_H_
