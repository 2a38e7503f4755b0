#include "launch/rank_model.h"

#include <algorithm>
#include <utility>

#include "parallel/grid/working_weights.h"

namespace lycia {

StatusOr<RankModel> RankModel::Create(const Args& args) {
  LYCIA_RETURN_IF_ERROR(Validate(args.model));
  RankModel model(args);
  model.num_layers_ = static_cast<int>(LayersOf(args.model).size());
  // What does not fit the grid is said here, on every rank alike.
  if (args.grid != nullptr) LYCIA_RETURN_IF_ERROR(model.MakeGridLayers(/*whole=*/true, DType::kF32).status());
  return model;
}

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
  std::int64_t largest = 0;
  if (args_.grid != nullptr) {
    const auto on_grid = MakeGridLayers(/*whole=*/true, compute);
    for (std::size_t i = 1; on_grid.ok() && i < on_grid->in.size(); ++i) largest = std::max(largest, on_grid->in[i].bytes());
    return largest;
  }
  const auto edges = Edges(compute);
  for (std::size_t i = 1; edges.ok() && i < edges->size(); ++i) largest = std::max(largest, PackedBytes((*edges)[i]));
  return largest;
}

SampleRange RankModel::Own(const SampleRange& of) const {
  if (args_.grid == nullptr) return of;
  const std::int64_t z = args_.grid->size(Axis::kZ), count = of.count / z;
  return {of.begin + args_.grid->coordinate(Axis::kZ) * count, count};
}

SampleRange RankModel::OwnInputs(const SampleRange& of) const {
  if (args_.grid == nullptr || !std::holds_alternative<ImageModelConfig>(args_.model)) return Own(of);
  // An image is large beside its label, and no operand of the first product needs those of others.
  const GridImages images{.samples = of.count, .whole = true};
  return {of.begin + images.first_sample(*args_.grid), images.part_samples(*args_.grid)};
}

StatusOr<RankModel::GridLayers> RankModel::MakeGridLayers(bool whole, DType compute) const {
  if (const auto* gpt = std::get_if<GptConfig>(&args_.model)) return MakeGridGpt(*gpt, whole, compute);
  if (const auto* images = std::get_if<ImageModelConfig>(&args_.model)) return MakeGridImages(*images, compute);
  return InvalidArgument(
      "a tensor grid does not cut the layers of this kind of model; use parallel.x = y = z = 1 with more parallel.data or "
      "parallel.stages");
}

StatusOr<RankModel::GridLayers> RankModel::MakeGridGpt(const GptConfig& gpt, bool whole, DType compute) const {
  const GridGptOptions options{.model = gpt,
                               .grid = args_.grid,
                               .samples = args_.samples,
                               .sequence = gpt.context,
                               .policy = args_.policy,
                               .weights_each_step = args_.weights_each_step,
                               .tied_in_one_stage = whole};
  LYCIA_ASSIGN_OR_RETURN(const GridGptShape shape, FitGpt(options));
  GridLayers made;
  LYCIA_ASSIGN_OR_RETURN(made.layers, GridGptLayers(options));
  made.in.assign(made.layers.size(), shape.Residual(compute));
  made.in.front() = {DType::kI32, {shape.sizes.samples, gpt.context}};
  return made;
}

StatusOr<RankModel::GridLayers> RankModel::MakeGridImages(const ImageModelConfig& model, DType compute) const {
  LYCIA_ASSIGN_OR_RETURN(GridImageLayers images, MakeGridImageLayers({.model = model,
                                                                      .grid = args_.grid,
                                                                      .samples = args_.samples,
                                                                      .policy = args_.policy,
                                                                      .weights_each_step = args_.weights_each_step}));
  GridLayers made{.layers = std::move(images.layers), .in = {}};
  for (const GridImages& in : images.in) made.in.push_back(in.Part(*args_.grid, in.whole ? DType::kU8 : compute));
  return made;
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
  LYCIA_ASSIGN_OR_RETURN(GridLayers all, MakeGridLayers(first == 0 && last == num_layers(), options.compute));
  std::vector<const GridLayer*> planned;
  for (int i = first; i < last; ++i) {
    planned.push_back(all.layers[static_cast<std::size_t>(i)].get());
    layers.push_back(std::move(all.layers[static_cast<std::size_t>(i)]));
  }
  LYCIA_ASSIGN_OR_RETURN(made.stage, LayerStage::Create(std::move(layers), {all.in[static_cast<std::size_t>(first)]}, options));
  for (const GridLayer* layer : planned) {
    made.grid_states.insert(made.grid_states.end(), layer->grid_states().begin(), layer->grid_states().end());
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
