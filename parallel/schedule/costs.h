// What one instruction costs, exactly: fractions as the user wrote them, and the 64-bit ticks that the simulator counts in.
#ifndef LYCIA_PARALLEL_SCHEDULE_COSTS_H_
#define LYCIA_PARALLEL_SCHEDULE_COSTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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

// What one stage and one whole micro-batch cost.
struct StageCosts {
  Fraction forward{1, 1};
  Fraction backward{2, 1};  // full: input and weight gradient
  Fraction input{1, 1};     // split backward: gradient with respect to the input ...
  Fraction weight{1, 1};    // ... and to the weights

  bool operator==(const StageCosts&) const = default;
};

StageCosts Sum(const StageCosts& a, const StageCosts& b);

// Costs in units of the user's choice. Those of compute are of all chunks of a worker and pipe together; `stages` overrides them.
struct Costs : StageCosts {
  Fraction latency;                // from the end of a compute instruction to the arrival of its message on another worker
  Fraction transmit;               // bytes over bandwidth: how long a message occupies its sender's one egress link, before the latency
  Fraction sync;                   // one sync set's reduction, from the arrival of its last member
  Fraction update;                 // the optimizer's step on everything that a worker holds
  std::vector<StageCosts> stages;  // [stage] of each stage as it is, uneven ones too; empty: the same share of the above for all

  bool operator==(const Costs&) const = default;
};

// "F=1,B=2" with keys F, B, I, W in any order. What is not given follows: F = 1; B = I + W, or 2 F; I and W share B, half and half or
// what the other one leaves. F and B must be positive. Several stages: one such list each, "F=1,B=2; F=3/2,B=3", into Costs::stages;
// the costs of all of them together over the number of lists then stand in the fields of the whole.
StatusOr<Costs> ParseCosts(std::string_view text);

struct StageTicks {
  std::int64_t forward = 1;
  std::int64_t backward = 2;
  std::int64_t input = 1;
  std::int64_t weight = 1;
  bool operator==(const StageTicks&) const = default;
};

// The same in ticks; unit = ticks_per_unit ticks. For measured costs, build it directly: ticks = ns, ticks_per_unit = 1'000'000 (ms).
struct TickCosts : StageTicks {
  std::int64_t ticks_per_unit = 1;
  std::int64_t latency = 0;
  std::int64_t transmit = 0;  // a message's time on the sender's one egress link; the next message waits for it
  std::int64_t sync = 0;
  std::int64_t update = 0;
  std::vector<StageTicks> stages;  // [stage]; empty: each of a worker's chunks takes 1 / chunks of the above
};

// Ticks such that every cost, and every divisor-th of it, is a whole number (halved backwards, chunks: divisor = 2 * chunks * parts).
// Fails if the costs' denominators have no common one below 2^20.
StatusOr<TickCosts> ToTicks(const Costs& costs, int divisor = 2);

// The same with a nanosecond as the tick and units of `unit_ns` of them, each cost rounded to the nearest: for clocks that run in real
// time. InvalidArgument: a cost beyond 10^15 ns (eleven days).
StatusOr<TickCosts> InNanoseconds(const Costs& costs, std::int64_t unit_ns);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_COSTS_H_
