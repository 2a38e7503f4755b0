#include "parallel/optimizer/loss_scaler.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {

LossScaler::LossScaler(const LossScaleOptions& options) : options_(options), state_{.scale = options.initial} {
  LYCIA_CHECK(options.least > 0 && options.initial >= options.least && options.initial <= kMost && options.growth_interval >= 0)
      << "a loss scale of " << options.initial << ", at least " << options.least << ", doubled every " << options.growth_interval << " ";
}

Status LossScaler::Restore(const State& state) {
  // Written so that a NaN is refused, too.
  if (!(state.scale > 0 && state.scale <= kMost) || state.good_steps < 0 || state.skipped_steps < 0) {
    return InvalidArgument("a loss scale of ", state.scale, " after ", state.good_steps, " good steps, ", state.skipped_steps,
                           " steps skipped in all, is none");
  }
  const bool fixed = options_.growth_interval == 0;
  state_ = {.scale = fixed ? options_.initial : std::max(state.scale, options_.least),
            .good_steps = fixed ? 0 : state.good_steps,
            .skipped_steps = state.skipped_steps};
  return OkStatus();
}

LossScaler::Verdict LossScaler::Judge(bool finite) {
  if (finite) {
    if (options_.growth_interval > 0 && ++state_.good_steps >= options_.growth_interval) {
      state_.scale = std::min(2 * state_.scale, kMost);
      state_.good_steps = 0;
    }
    return Verdict::kUpdate;
  }
  if (state_.scale <= options_.least) return Verdict::kGiveUp;
  state_.scale = std::max(state_.scale / 2, options_.least);
  state_.good_steps = 0;
  ++state_.skipped_steps;
  return Verdict::kSkip;
}

}  // namespace lycia
