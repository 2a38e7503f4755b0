// StepScalars: what one optimizer step tells every kernel. They live in device memory, so that a step needs no host synchronisation.
#ifndef LYCIA_KERNELS_OPTIMIZER_STEP_SCALARS_H_
#define LYCIA_KERNELS_OPTIMIZER_STEP_SCALARS_H_

#include <cmath>
#include <cstdint>

namespace lycia {

struct StepScalars {
  double lr = 0;
  double clip_factor = 1;       // every gradient is multiplied by it: clipping, and one over the loss scale
  double bias_correction1 = 1;  // 1 - beta1^step, step counted from 1
  double bias_correction2 = 1;  // 1 - beta2^step
};

inline StepScalars MakeStepScalars(std::int64_t step /* from 1 */, double lr, double clip_factor, double beta1, double beta2) {
  const double t = static_cast<double>(step);
  return {.lr = lr, .clip_factor = clip_factor, .bias_correction1 = 1 - std::pow(beta1, t), .bias_correction2 = 1 - std::pow(beta2, t)};
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_OPTIMIZER_STEP_SCALARS_H_
