#include "launch/rank_model.h"

#include <algorithm>
#include <utility>

#include "parallel/grid/working_weights.h"

namespace lycia {

StatusOr<RankModel> RankModel::Create(const Args& args) {
  LYCIA_RETURN_IF_ERROR(Validate(args.model));
  RankModel model(args);
  model.num_layers_ = static_cast<int>(LayersOf(args.model).size());
  if (args.grid != nullptr) {
    const auto* gpt = std::get_if<GptConfig>(&args.model);
    if (gpt == nullptr) {
      return InvalidArgument("a tensor grid cuts the layers of a model of kind gpt only; use parallel.x = y = z = 1 with more "
                             "parallel.data or parallel.stages");
    }
    LYCIA_ASSIGN_OR_RETURN(
        const GridGptShape shape,
        FitGpt({.model = *gpt, .grid = args.grid, .samples = args.samples, .sequence = gpt->context, .policy = args.policy}));
    model.sizes_ = shape.sizes;
  }
  return model;
}

TensorSpec RankModel::tokens() const { return {DType::kI32, {Own({0, args_.samples}).count, gpt().context}}; }

TensorSpec RankModel::boundary(DType compute) const { return {compute, {sizes_.rows_zy, sizes_.features}}; }

StatusOr<std::vector<std::vector<TensorSpec>>> RankModel::Edges(DType compute) const {
  std::vector<std::vector<TensorSpec>> edges = {{InputOf(args_.model, args_.samples)}};
  for (const std::unique_ptr<Layer>& layer : LayersOf(args_.model)) {
    LayerPlan plan(compute);
    StatusOr<std::vector<TensorSpec>> out = layer->Plan(edges.back(), plan);
    if (!out.ok()) return Annotate(out.status(), layer->name());
    edges.push_back(*std::move(out));
  }
  return edges;
}

std::int64_t RankModel::message_bytes(DType compute) const {
  if (args_.grid != nullptr) return boundary(compute).bytes();
  const auto edges = Edges(compute);
  std::int64_t largest = 0;
  for (std::size_t i = 1; edges.ok() && i < edges->size(); ++i) largest = std::max(largest, PackedBytes((*edges)[i]));
  return largest;
}

SampleRange RankModel::Own(const SampleRange& of) const {
  if (args_.grid == nullptr) return of;
  const std::int64_t z = args_.grid->size(Axis::kZ), count = of.count / z;
  return {of.begin + args_.grid->coordinate(Axis::kZ) * count, count};
}

StatusOr<std::vector<std::unique_ptr<GridLayer>>> RankModel::GridLayers(bool whole) const {
  return GridGptLayers({.model = gpt(),
                        .grid = args_.grid,
                        .samples = args_.samples,
                        .sequence = gpt().context,
                        .policy = args_.policy,
                        .weights_each_step = args_.weights_each_step,
                        .tied_in_one_stage = whole});
}

StatusOr<RankModel::Stage> RankModel::MakeStage(int first, int last, const LayerStage::Options& options) const {
  Stage made;
  std::vector<std::unique_ptr<Layer>> layers;
  if (args_.grid == nullptr) {
    LYCIA_ASSIGN_OR_RETURN(std::vector<std::vector<TensorSpec>> edges, Edges(options.compute));
    std::vector<std::unique_ptr<Layer>> all = LayersOf(args_.model);
    for (int i = first; i < last; ++i) layers.push_back(std::move(all[static_cast<std::size_t>(i)]));
    LYCIA_ASSIGN_OR_RETURN(made.stage, LayerStage::Create(std::move(layers), std::move(edges[static_cast<std::size_t>(first)]), options));
    made.stored = made.stage->parameters();
    return made;
  }
  const std::vector<TensorSpec> inputs = {first == 0 ? tokens() : boundary(options.compute)};
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
