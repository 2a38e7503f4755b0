// What others would move for the same block, to measure grids against: a bound that nobody beats, and SUMMA.
#ifndef LYCIA_PARALLEL_PLAN_GRID_REFERENCES_H_
#define LYCIA_PARALLEL_PLAN_GRID_REFERENCES_H_

#include <optional>

#include "parallel/plan/grid_bytes.h"

namespace lycia::plan {

// Al Daas, Ballard, Grigori, Kumar, Rouse 2022 (arXiv 2205.13407): a product of [m, k] and [k, n] on P ranks moves at least
// 3 (m n k / P)^(2/3) - (m k + k n + m n) / P words a rank, where P is large against the aspect ratios. Summed over the four products of a
// block, doubled for backward; bytes of a rank. Never below 0.
double LowerBoundBytes(const GridProblem& problem, int ranks);

// 2-D with SUMMA (Optimus: Xu et al. 2021) on a q * q grid, bytes that a rank receives: (m k + k n)(q - 1) / q^2 for each product, backward
// twice that. Empty where `ranks` is no square.
std::optional<double> SummaBytes(const GridProblem& problem, int ranks);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_REFERENCES_H_
