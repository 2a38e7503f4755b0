// Learning rate of a step: linear warm-up, then a half cosine down to min_lr at the last step.
#ifndef LYCIA_LAUNCH_LR_SCHEDULE_H_
#define LYCIA_LAUNCH_LR_SCHEDULE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace lycia {

struct LrSchedule {
  double lr = 1e-3;
  double min_lr = 0.0;
  std::int64_t warmup_steps = 0;
  std::int64_t steps = 1;  // of the whole run

  // step = 1..steps. Warm-up: lr * step / warmup_steps, so that step warmup_steps has lr in full; step `steps` has min_lr.
  double At(std::int64_t step) const {
    if (step <= warmup_steps) return lr * static_cast<double>(step) / static_cast<double>(warmup_steps);
    if (steps <= warmup_steps) return lr;
    const double done = std::min(1.0, static_cast<double>(step - warmup_steps) / static_cast<double>(steps - warmup_steps));
    return min_lr + 0.5 * (lr - min_lr) * (1.0 + std::cos(std::numbers::pi * done));
  }
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_LR_SCHEDULE_H_
