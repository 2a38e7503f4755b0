#include "models/grid_dry_run.h"

#include <map>
#include <utility>

#include "parallel/grid/step_exchange.h"
#include "parallel/pipeline/layer_stage.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

constexpr StageSlots kSlots{.stash = 0, .input = 0, .handoff = 0};

GridTraffic Counted(const Grid& grid) {
  GridTraffic traffic;
  for (int g = 0; g < kNumGridGroups; ++g) {
    if (const Communicator* along = grid.along(static_cast<GridGroup>(g))) traffic.of[static_cast<std::size_t>(g)] = along->counters();
  }
  return traffic;
}

GridTraffic Minus(const GridTraffic& after, const GridTraffic& before) {
  GridTraffic difference = after;
  for (std::size_t g = 0; g < difference.of.size(); ++g) {
    for (std::size_t operation = 0; operation < difference.of[g].of.size(); ++operation) {
      for (std::size_t tag = 0; tag < difference.of[g].of[operation].size(); ++tag) {
        difference.of[g].of[operation][tag].calls -= before.of[g].of[operation][tag].calls;
        difference.of[g].of[operation][tag].bytes -= before.of[g].of[operation][tag].bytes;
      }
    }
  }
  return difference;
}

// Some layers of the model with tensors that have shapes alone.
StatusOr<std::unique_ptr<LayerStage>> ShapeStage(std::vector<std::unique_ptr<Layer>> layers, std::vector<TensorSpec> inputs,
                                                 const GridDryRunArgs& args) {
  LYCIA_ASSIGN_OR_RETURN(
      std::unique_ptr<LayerStage> stage,
      LayerStage::Create(std::move(layers), std::move(inputs), {.compute = args.compute, .split_backward = args.split_backward}));
  std::map<std::string, Shape> shapes;
  for (const ParameterSpec& spec : stage->parameters()) shapes[spec.name] = spec.shape;
  stage->Bind({.stash = {nullptr},
               .input = {nullptr},
               .handoff = {nullptr},
               .weight =
                   [&](const std::string& name) {
                     return Tensor{nullptr, args.compute, shapes.at(name)};
                   },
               .gradient =
                   [&](const std::string& name, int) {
                     return Tensor{nullptr, args.compute, shapes.at(name)};
                   }});
  return stage;
}

// The step's exchange of what is gathered once: weights out, gradients back.
void ExchangeVectors(Stream& stream, const Grid& grid, DType dtype, const std::vector<GridParameter>& parameters) {
  StepExchange exchange(grid, dtype, parameters);
  std::vector<StepExchange::Binding> bindings;
  for (const GridParameter& parameter : exchange.parameters()) {
    const Tensor owned = {nullptr, dtype, {parameter.Owned(grid).count}}, block = {nullptr, dtype, {parameter.block.elements()}};
    bindings.push_back({.owned = owned, .owned_gradient = owned, .copy = block, .partial = block});
  }
  exchange.Bind(nullptr, bindings);
  exchange.Gather(stream);
  exchange.Reduce(stream);
}

}  // namespace

Counter GridTraffic::sum(GridGroup group, Tag tag) const {
  Counter sum;
  for (const auto& operation : of[static_cast<std::size_t>(group)].of) {
    sum.calls += operation[static_cast<std::size_t>(tag)].calls;
    sum.bytes += operation[static_cast<std::size_t>(tag)].bytes;
  }
  return sum;
}

StatusOr<GridStep> DryRunGridStep(const GridDryRunArgs& args) {
  const int ranks = args.x * args.y * args.z;
  const std::unique_ptr<Communicator> world = OpenDryRunWorld(args.rank, ranks);
  LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = args.x, .y = args.y, .z = args.z}, ranks));
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Grid> grid, Grid::Create(*world, mesh));
  const GridGptOptions options = {
      .model = args.model, .grid = grid.get(), .samples = args.samples, .sequence = args.sequence, .policy = args.policy};
  LYCIA_ASSIGN_OR_RETURN(const GridGptShape shape, FitGpt(options));
  LYCIA_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<GridLayer>> layers, GridGptLayers(options));

  // Three stages, so that the counters of ends and blocks are told apart: embedding, blocks, head.
  const TensorSpec tokens = {DType::kI32, {shape.sizes.samples, args.sequence}};
  std::vector<std::unique_ptr<Layer>> parts[3];
  std::vector<const GridLayer*> planned;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    planned.push_back(layers[i].get());
    parts[i == 0 ? 0 : i + 1 < layers.size() ? 1 : 2].push_back(std::move(layers[i]));
  }
  std::unique_ptr<LayerStage> stages[3];
  for (std::size_t s = 0; s < 3; ++s) {
    const std::vector<TensorSpec> inputs = {s == 0 ? tokens : shape.Residual(args.compute)};
    LYCIA_ASSIGN_OR_RETURN(stages[s], ShapeStage(std::move(parts[s]), inputs, args));
  }
  std::vector<GridParameter> parameters;
  for (const GridLayer* layer : planned) {
    parameters.insert(parameters.end(), layer->grid_parameters().begin(), layer->grid_parameters().end());
  }

  const std::unique_ptr<Device> device = NewShapeDevice();
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  StageContext context{.stream = stream.get(), .samples = {0, args.samples}};
  GridTraffic before = Counted(*grid);
  const auto since = [&] { return Minus(Counted(*grid), std::exchange(before, Counted(*grid))); };
  GridStep step;
  GridTraffic* const forward[3] = {&step.embedding, &step.blocks, &step.head};
  GridTraffic* const backward[3] = {&step.embedding_backward, &step.blocks_backward, &step.head_backward};
  for (std::size_t s = 0; s < 3; ++s) {
    stages[s]->Forward(context, kSlots, nullptr);
    *forward[s] = since();
  }
  for (std::size_t s = 3; s-- > 0;) {
    if (args.split_backward) {
      stages[s]->BackwardInput(context, kSlots, nullptr, nullptr);
      stages[s]->BackwardWeight(context, kSlots);
    } else {
      stages[s]->Backward(context, kSlots, nullptr, nullptr);
    }
    *backward[s] = since();
  }
  step.kept_bytes = stages[1]->bytes(Area::kStash) + stages[1]->bytes(Area::kInput);
  step.moving_bytes = stages[1]->transfer_bytes();
  ExchangeVectors(*stream, *grid, args.compute, parameters);
  step.vectors = since();
  LYCIA_RETURN_IF_ERROR(stream->Synchronize());
  return step;
}

}  // namespace lycia
