// LossScaler: by how much a model in f16 multiplies its loss, so that small gradients do not vanish below 2^-24 on their way back through
// the layers; the optimizer divides them by it again (Micikevicius et al. 2018, "Mixed precision training", sec. 3.2).
//
// The dynamic rule, as PyTorch and Megatron have it: doubled after `growth_interval` good steps in a row, halved when a gradient or the
// loss is not finite, and that step's update is left out. A pure function of what steps found: ranks that agree on that agree on the scale.
#ifndef LYCIA_PARALLEL_OPTIMIZER_LOSS_SCALER_H_
#define LYCIA_PARALLEL_OPTIMIZER_LOSS_SCALER_H_

#include <cstdint>

#include "runtime/core/status.h"

namespace lycia {

// All scales are positive; powers of two change no bit of a gradient that neither overflows nor vanishes.
struct LossScaleOptions {
  double initial = 65536;
  std::int64_t growth_interval = 2000;  // good steps until it is doubled; 0: never
  double least = 1;                     // an overflow at this scale is not for the scale to repair
};

// The same scale always; an overflow ends the run.
inline LossScaleOptions FixedLossScale(double scale) { return {.initial = scale, .growth_interval = 0, .least = scale}; }

class LossScaler {
 public:
  // Never more, however many steps had gradients of zero: it stays finite, also in f32.
  static constexpr double kMost = 0x1p64;

  // What a checkpoint holds.
  struct State {
    double scale = 1;
    std::int64_t good_steps = 0;     // in a row, since the scale last changed
    std::int64_t skipped_steps = 0;  // of the whole run: steps without an update
    bool operator==(const State&) const = default;
  };

  explicit LossScaler(const LossScaleOptions& options);

  double scale() const { return state_.scale; }  // of the next step
  const State& state() const { return state_; }
  // InvalidArgument for a state that no run can have had. A fixed scale stays that of the options.
  Status Restore(const State& state);

  enum class Verdict : std::uint8_t {
    kUpdate,  // all is finite
    kSkip,    // leave the update out and go on: the scale was halved
    kGiveUp   // it cannot be
  };
  // Of a step that was made with scale().
  Verdict Judge(bool finite);

 private:
  LossScaleOptions options_;
  State state_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_OPTIMIZER_LOSS_SCALER_H_
