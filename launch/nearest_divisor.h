// For messages that say which size would fit.
#ifndef LYCIA_LAUNCH_NEAREST_DIVISOR_H_
#define LYCIA_LAUNCH_NEAREST_DIVISOR_H_

#include <cstdint>
#include <cstdlib>

namespace lycia {

// The divisor of `whole` that is nearest to `wanted`; the smaller one of two.
inline std::int64_t NearestDivisor(std::int64_t whole, std::int64_t wanted) {
  std::int64_t best = 1;
  for (std::int64_t d = 1; d * d <= whole; ++d) {
    if (whole % d != 0) continue;
    for (const std::int64_t divisor : {d, whole / d}) {
      const std::int64_t off = std::abs(divisor - wanted), best_off = std::abs(best - wanted);
      if (off < best_off || (off == best_off && divisor < best)) best = divisor;
    }
  }
  return best;
}

}  // namespace lycia

#endif  // LYCIA_LAUNCH_NEAREST_DIVISOR_H_
