// `lycia plan grid`: the planned grids as text or JSON.
#ifndef LYCIA_PARALLEL_PLAN_GRID_REPORT_H_
#define LYCIA_PARALLEL_PLAN_GRID_REPORT_H_

#include <string>
#include <vector>

#include "parallel/plan/grid_plan.h"

namespace lycia::plan {

// A table (MB are 10^6 bytes), the refused grids with their reasons, and why the winner wins.
std::string GridsText(const PlanGridsArgs& args, const std::vector<GridPlan>& plans);
// An array with one object a grid, in the order of `plans` (docs/plan_grid.md names the members).
std::string GridsJson(const PlanGridsArgs& args, const std::vector<GridPlan>& plans);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_REPORT_H_
