// GridLayer: a layer that says of every parameter and state which part of the model's tensor it is.
#ifndef LYCIA_PARALLEL_GRID_GRID_LAYER_H_
#define LYCIA_PARALLEL_GRID_GRID_LAYER_H_

#include <vector>

#include "parallel/grid/parameter.h"
#include "parallel/grid/state.h"
#include "parallel/layer/layer.h"

namespace lycia {

class GridLayer : public Layer {
 public:
  // After Plan: one for each of LayerPlan::parameters(), and of states(), in that order.
  const std::vector<GridParameter>& grid_parameters() const { return grid_parameters_; }
  const std::vector<GridState>& grid_states() const { return grid_states_; }

 protected:
  ParameterHandle Declare(const Grid& grid, const GridParameter& parameter, LayerPlan& plan) {
    grid_parameters_.push_back(parameter);
    return plan.Parameter(parameter.LayerSpec(grid));
  }
  // Of states that the plan has already.
  void AddStates(const std::vector<GridState>& states) { grid_states_.insert(grid_states_.end(), states.begin(), states.end()); }

 private:
  std::vector<GridParameter> grid_parameters_;
  std::vector<GridState> grid_states_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_GRID_LAYER_H_
