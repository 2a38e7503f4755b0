// RankModel: the model as one rank computes with it, layer by layer: whole, or its part of every layer on a tensor grid.
#ifndef LYCIA_LAUNCH_RANK_MODEL_H_
#define LYCIA_LAUNCH_RANK_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "models/gpt.h"
#include "models/grid_gpt.h"
#include "parallel/grid/grid.h"
#include "parallel/grid/parameter.h"
#include "parallel/pipeline/layer_stage.h"

namespace lycia {

class RankModel {
 public:
  struct Args {
    GptConfig model;
    std::int64_t samples = 0;    // of a micro-batch
    const Grid* grid = nullptr;  // nullptr: none; outlives this and all stages
    GridPolicy policy;
    bool weights_each_step = false;
  };
  // InvalidArgument for sizes that do not fit the model or the grid.
  static StatusOr<RankModel> Create(const Args& args);

  TensorSpec tokens() const;                     // [samples, T] i32, of this rank's z
  TensorSpec boundary(DType compute) const;      // between two stages
  SampleRange Own(const SampleRange& of) const;  // the samples of a micro-batch whose tokens and labels this rank reads

  struct Stage {
    std::unique_ptr<LayerStage> stage;
    std::vector<GridParameter> grid_parameters;  // of its layers; empty without a grid
    std::vector<ParameterSpec> stored;           // what the parameter store holds for it
  };
  // Layers [first, last) of 2 L + 2, planned afresh.
  StatusOr<Stage> MakeStage(int first, int last, const LayerStage::Options& options) const;
  int num_layers() const { return static_cast<int>(2 * args_.model.layers + 2); }

 private:
  explicit RankModel(const Args& args) : args_(args) {}
  StatusOr<std::vector<std::unique_ptr<GridLayer>>> GridLayers(bool whole) const;

  Args args_;
  GridSizes sizes_;  // with a grid
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_RANK_MODEL_H_
