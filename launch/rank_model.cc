#include "launch/rank_model.h"

#include <utility>

#include "parallel/grid/working_weights.h"

namespace lycia {

StatusOr<RankModel> RankModel::Create(const Args& args) {
  LYCIA_RETURN_IF_ERROR(Validate(args.model));
  RankModel model(args);
  if (args.grid != nullptr) {
    LYCIA_ASSIGN_OR_RETURN(
        const GridGptShape shape,
        FitGpt({.model = args.model, .grid = args.grid, .samples = args.samples, .sequence = args.model.context, .policy = args.policy}));
    model.sizes_ = shape.sizes;
  }
  return model;
}

TensorSpec RankModel::tokens() const { return {DType::kI32, {Own({0, args_.samples}).count, args_.model.context}}; }

TensorSpec RankModel::boundary(DType compute) const {
  if (args_.grid != nullptr) return {compute, {sizes_.rows_zy, sizes_.features}};
  return {compute, {args_.samples, args_.model.context, args_.model.hidden}};
}

SampleRange RankModel::Own(const SampleRange& of) const {
  if (args_.grid == nullptr) return of;
  const std::int64_t z = args_.grid->size(Axis::kZ), count = of.count / z;
  return {of.begin + args_.grid->coordinate(Axis::kZ) * count, count};
}

StatusOr<std::vector<std::unique_ptr<GridLayer>>> RankModel::GridLayers(bool whole) const {
  return GridGptLayers({.model = args_.model,
                        .grid = args_.grid,
                        .samples = args_.samples,
                        .sequence = args_.model.context,
                        .policy = args_.policy,
                        .weights_each_step = args_.weights_each_step,
                        .tied_in_one_stage = whole});
}

StatusOr<RankModel::Stage> RankModel::MakeStage(int first, int last, const LayerStage::Options& options) const {
  Stage made;
  std::vector<std::unique_ptr<Layer>> layers;
  const std::vector<TensorSpec> inputs = {first == 0 ? tokens() : boundary(options.compute)};
  if (args_.grid == nullptr) {
    std::vector<std::unique_ptr<Layer>> all = GptLayers(args_.model);
    for (int i = first; i < last; ++i) layers.push_back(std::move(all[static_cast<std::size_t>(i)]));
    LYCIA_ASSIGN_OR_RETURN(made.stage, LayerStage::Create(std::move(layers), inputs, options));
    made.stored = made.stage->parameters();
    return made;
  }
  LYCIA_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<GridLayer>> all, GridLayers(first == 0 && last == num_layers()));
  std::vector<const GridLayer*> planned;
  for (int i = first; i < last; ++i) {
    planned.push_back(all[static_cast<std::size_t>(i)].get());
    layers.push_back(std::move(all[static_cast<std::size_t>(i)]));
  }
  LYCIA_ASSIGN_OR_RETURN(made.stage, LayerStage::Create(std::move(layers), inputs, options));
  for (const GridLayer* layer : planned) {
    for (const GridParameter& parameter : layer->grid_parameters()) {
      made.grid_parameters.push_back(parameter);
      if (parameter.exchange == Exchange::kHandOver) continue;
      LYCIA_ASSIGN_OR_RETURN(ParameterSpec stored, StoredSpec(parameter, *args_.grid));
      made.stored.push_back(std::move(stored));
    }
  }
  return made;
}

}  // namespace lycia
