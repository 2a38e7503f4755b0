// GridLayer: a layer that says of every parameter which part of the model's tensor it is.
#ifndef LYCIA_PARALLEL_GRID_GRID_LAYER_H_
#define LYCIA_PARALLEL_GRID_GRID_LAYER_H_

#include <vector>

#include "parallel/grid/parameter.h"
#include "parallel/layer/layer.h"

namespace lycia {

class GridLayer : public Layer {
 public:
  // After Plan: one for each of LayerPlan::parameters(), in that order.
  const std::vector<GridParameter>& grid_parameters() const { return grid_parameters_; }

 protected:
  ParameterHandle Declare(const Grid& grid, const GridParameter& parameter, LayerPlan& plan) {
    grid_parameters_.push_back(parameter);
    return plan.Parameter(parameter.LayerSpec(grid));
  }

 private:
  std::vector<GridParameter> grid_parameters_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_GRID_LAYER_H_
