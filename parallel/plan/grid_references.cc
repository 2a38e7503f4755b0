#include "parallel/plan/grid_references.h"

#include <algorithm>
#include <cmath>

namespace lycia::plan {

double LowerBoundBytes(const GridProblem& problem, int ranks) {
  const double m = static_cast<double>(problem.batch.tokens);
  double words = 0;
  for (const BlockLinear& linear : BlockLinears(problem.model, {})) {
    const double k = static_cast<double>(linear.k), n = static_cast<double>(linear.n);
    words += std::max(0.0, 3 * std::cbrt(std::pow(m * n * k / ranks, 2)) - (m * k + k * n + m * n) / ranks);
  }
  return 2 * words * static_cast<double>(problem.element_bytes);
}

std::optional<double> SummaBytes(const GridProblem& problem, int ranks) {
  const int q = static_cast<int>(std::lround(std::sqrt(ranks)));
  if (q * q != ranks) return std::nullopt;
  const double m = static_cast<double>(problem.batch.tokens);
  double words = 0;
  for (const BlockLinear& linear : BlockLinears(problem.model, {})) {
    words += (m + static_cast<double>(linear.n)) * static_cast<double>(linear.k) * (q - 1) / ranks;
  }
  constexpr int kPasses = 3;  // forward, and backward twice
  return kPasses * words * static_cast<double>(problem.element_bytes);
}

}  // namespace lycia::plan
