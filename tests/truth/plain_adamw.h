// AdamW with decoupled decay (Loshchilov & Hutter 2019) as docs/numerics.md has it, for the serial truth only.
#ifndef LYCIA_TESTS_TRUTH_PLAIN_ADAMW_H_
#define LYCIA_TESTS_TRUTH_PLAIN_ADAMW_H_

#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "tests/truth/serial_trainer.h"

namespace lycia::truth {

// All parameters of a model by name. t counts from 1; decays(name): does weight decay apply.
template <typename Number>
struct AdamW {
  using Arrays = std::map<std::string, std::vector<Number>>;
  const TrainingOptions& options;
  int t;
  double lr, clip_factor;

  void Update(const auto& decays, const Arrays& gradients, Arrays& weights, Arrays& first_moments, Arrays& second_moments) const {
    const double b1 = options.beta1, b2 = options.beta2;
    for (auto& [name, weight] : weights) {
      const double decay = decays(name) ? options.weight_decay : 0;
      for (std::size_t i = 0; i < weight.size(); ++i) {
        const Number g = gradients.at(name)[i] * static_cast<Number>(clip_factor);
        Number &w = weight[i], &m = first_moments.at(name)[i], &v = second_moments.at(name)[i];
        w -= static_cast<Number>(lr * decay) * w;
        m = static_cast<Number>(b1) * m + static_cast<Number>(1 - b1) * g;
        v = static_cast<Number>(b2) * v + static_cast<Number>(1 - b2) * g * g;
        const Number m_hat = m / static_cast<Number>(1 - std::pow(b1, t)), v_hat = v / static_cast<Number>(1 - std::pow(b2, t));
        w -= static_cast<Number>(lr) * m_hat / (std::sqrt(v_hat) + static_cast<Number>(options.eps));
      }
    }
  }
};

}  // namespace lycia::truth

#endif  // LYCIA_TESTS_TRUTH_PLAIN_ADAMW_H_
