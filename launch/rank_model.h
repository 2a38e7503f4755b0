// RankModel: the model as one rank computes with it, layer by layer: whole, or its part of every layer on a tensor grid.
#ifndef LYCIA_LAUNCH_RANK_MODEL_H_
#define LYCIA_LAUNCH_RANK_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "models/grid_gpt.h"
#include "models/grid_image_model.h"
#include "models/model.h"
#include "parallel/grid/grid.h"
#include "parallel/grid/parameter.h"
#include "parallel/grid/state.h"
#include "parallel/pipeline/layer_stage.h"

namespace lycia {

class RankModel {
 public:
  struct Args {
    Model model;
    std::int64_t samples = 0;    // of a micro-batch
    const Grid* grid = nullptr;  // nullptr: none; outlives this and all stages
    GridPolicy policy;
    bool weights_each_step = false;
  };
  // InvalidArgument for sizes that do not fit the model or the grid.
  static StatusOr<RankModel> Create(const Args& args);

  std::int64_t message_bytes(DType compute) const;  // of the largest activations between two stages
  // The samples of a micro-batch whose labels this rank reads; whose tokens or images.
  SampleRange Own(const SampleRange& of) const;
  SampleRange OwnInputs(const SampleRange& of) const;

  struct Stage {
    std::unique_ptr<LayerStage> stage;
    std::vector<GridParameter> grid_parameters;  // of its layers; empty without a grid
    std::vector<GridState> grid_states;
    std::vector<ParameterSpec> stored;  // what the parameter store holds for it
  };
  // Layers [first, last), planned afresh.
  StatusOr<Stage> MakeStage(int first, int last, const LayerStage::Options& options) const;
  int num_layers() const { return num_layers_; }

 private:
  explicit RankModel(const Args& args) : args_(args) {}
  // On a grid: fresh layers, and what goes into each.
  struct GridLayers {
    std::vector<std::unique_ptr<GridLayer>> layers;
    std::vector<TensorSpec> in;
  };
  StatusOr<GridLayers> MakeGridLayers(bool whole, DType compute) const;
  StatusOr<GridLayers> MakeGridGpt(const GptConfig& gpt, bool whole, DType compute) const;
  StatusOr<GridLayers> MakeGridImages(const ImageModelConfig& model, DType compute) const;
  // Inputs of each layer and the outputs of the last, of a micro-batch.
  StatusOr<std::vector<std::vector<TensorSpec>>> Edges(DType compute) const;

  Args args_;
  int num_layers_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_RANK_MODEL_H_
