// What the communicators of one rank's grid have counted, and the closed forms of docs/tensor_grid.md to hold against it.
#ifndef LYCIA_TESTS_GRID_TRAFFIC_FOR_TEST_H_
#define LYCIA_TESTS_GRID_TRAFFIC_FOR_TEST_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/grid/grid.h"

namespace lycia {

// By "group tag operation": calls and logical bytes of one rank.
std::map<std::string, Counter> Traffic(const Grid& grid);
// Internal error naming the first counter that differs, and the case; nothing may be counted that is not expected.
Status CompareTraffic(const Grid& grid, const std::map<std::string, Counter>& expected, std::string_view of);

// One rank's counters, put together from operands by the number of elements that all ranks of a group hold of them.
class TrafficForms {
 public:
  TrafficForms(const Grid& grid, std::int64_t element_bytes) : grid_(grid), e_(element_bytes) {}

  // `calls` collectives, each of an operand that is cut into nearly equal parts. Rank p owns o = n / q elements, the first n mod q ranks
  // one more: others' elements, n - o, come to it; or q - 1 summands of its own o.
  void Gather(GridGroup group, Tag tag, std::int64_t n, std::int64_t calls) { Add(group, tag, "all-gather", calls, n - Owned(group, n)); }
  void Reduce(GridGroup group, Tag tag, std::int64_t n, std::int64_t calls) {
    Add(group, tag, "reduce-scatter", calls, (grid_.size(group) - 1) * Owned(group, n));
  }
  void AllReduce(GridGroup group, Tag tag, std::int64_t n, std::int64_t calls) {
    Add(group, tag, "all-reduce", calls, (grid_.size(group) - 2) * Owned(group, n) + n);
  }
  // The vectors of a group in one message, each cut on its own, gathered once a step and their gradients reduced once.
  void Vectors(GridGroup group, const std::vector<std::int64_t>& sizes, std::int64_t steps) {
    std::int64_t all = 0, owned = 0;
    for (const std::int64_t n : sizes) all += n, owned += Owned(group, n);
    Add(group, Tag::kVector, "all-gather", steps, all - owned);
    Add(group, Tag::kVector, "reduce-scatter", steps, (grid_.size(group) - 1) * owned);
  }
  std::map<std::string, Counter> Take() { return std::move(traffic_); }

 private:
  std::int64_t Owned(GridGroup group, std::int64_t n) const {
    const std::int64_t q = grid_.size(group);
    return n / q + (grid_.position(group) < n % q ? 1 : 0);
  }
  void Add(GridGroup group, Tag tag, const char* operation, std::int64_t calls, std::int64_t elements) {
    if (grid_.size(group) == 1 || calls == 0) return;
    Counter& counter = traffic_[StrCat(Name(group), " ", Name(tag), " ", operation)];
    counter.calls += calls;
    counter.bytes += e_ * calls * elements;
  }

  const Grid& grid_;
  std::int64_t e_;
  std::map<std::string, Counter> traffic_;
};

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_TRAFFIC_FOR_TEST_H_
