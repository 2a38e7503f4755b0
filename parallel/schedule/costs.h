// What one instruction costs, exactly: fractions as the user wrote them, and the 64-bit ticks that the simulator counts in.
#ifndef LYCIA_PARALLEL_SCHEDULE_COSTS_H_
#define LYCIA_PARALLEL_SCHEDULE_COSTS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/core/status.h"

namespace lycia::schedule {

// Non-negative, reduced, denominator > 0.
struct Fraction {
  std::int64_t numerator = 0;
  std::int64_t denominator = 1;

  double value() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
  bool operator==(const Fraction&) const = default;
};

// "3", "3/2" or "18.522", exactly. Rejects signs, exponents and more than six digits on either side.
StatusOr<Fraction> ParseFraction(std::string_view text);
std::string ToString(const Fraction& fraction);  // "3" or "3/2"

// Costs in units of the user's choice, of one stage (all chunks of a worker and pipe together) and one whole micro-batch.
struct Costs {
  Fraction forward{1, 1};
  Fraction backward{2, 1};  // full: input and weight gradient
  Fraction input{1, 1};     // split backward: gradient with respect to the input ...
  Fraction weight{1, 1};    // ... and to the weights
  Fraction latency;         // from the end of a compute instruction to the arrival of its message on another worker
  Fraction sync;            // one sync set's reduction, from the arrival of its last member

  bool operator==(const Costs&) const = default;
};

// "F=1,B=2" with keys F, B, I, W in any order. What is not given follows: F = 1; B = I + W, or 2 F; I and W share B, half and half or
// what the other one leaves. F and B must be positive.
StatusOr<Costs> ParseCosts(std::string_view text);

// The same in ticks; unit = ticks_per_unit ticks. For measured costs, build it directly: ticks = ns, ticks_per_unit = 1'000'000 (ms).
struct TickCosts {
  std::int64_t ticks_per_unit = 1;
  std::int64_t forward = 1;
  std::int64_t backward = 2;
  std::int64_t input = 1;
  std::int64_t weight = 1;
  std::int64_t latency = 0;
  std::int64_t transmit = 0;  // a message's time on the sender's one egress link; the next message waits for it
  std::int64_t sync = 0;
  std::int64_t update = 0;
};

// Ticks such that every cost, and every divisor-th of it, is a whole number (halved backwards, chunks: divisor = 2 * chunks * parts).
// Fails if the costs' denominators have no common one below 2^20.
StatusOr<TickCosts> ToTicks(const Costs& costs, int divisor = 2);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_COSTS_H_
