#include "models/layers/grid_dense_layer.h"

#include "kernels/activation/relu.h"
#include "models/layers/flat_rows.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GridDenseLayer::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const Grid& grid = *options_.grid;
  LYCIA_CHECK(in[0] == options_.in.Part(grid, plan.compute())) << in[0].ToString() << " ";
  const auto declare = [&](const GridParameter& parameter) { return Declare(grid, parameter, plan); };
  LYCIA_ASSIGN_OR_RETURN(out_, dense_.Plan(grid, options_.in, options_.dense, declare, plan, &scratch_));
  const TensorSpec out = out_.Part(grid, plan.compute());
  activated_ = plan.Keep(out, KeepUntil::kInput);
  scratch_.Declare(plan);
  return std::vector<TensorSpec>{out};
}

DropoutMask GridDenseLayer::Mask(const StageContext& stage) const {
  if (!stage.training || options_.dropout == 0) return {};
  const std::int64_t units = options_.dense.units, sample = stage.samples.begin + out_.first_sample(*options_.grid);
  return {.rate = options_.dropout,
          .random = RandomStream(stage.seed, dropout_name_, stage.random_step()),
          .first_index = sample * units + options_.grid->coordinate(out_.channels_along) * dense_.part_units(),
          .row_stride = units};
}

void GridDenseLayer::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &activated = context.keep(activated_), &out = context.out[0], input = dense_.Input(context);
  stream.Copy(input.data, context.in[0].data, input.bytes());
  dense_.Forward(context, FlatRows(activated));
  ReluForward(stream, {.in = activated, .out = activated});
  DropoutForward(stream, {.in = FlatRows(activated), .out = FlatRows(out), .mask = Mask(*context.stage)});
}

void GridDenseLayer::BackwardActivation(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor dactivated = dense_.OutputGradient(context);
  DropoutBackward(stream, {.dout = FlatRows(context.dout[0]), .din = dactivated, .mask = Mask(*context.stage)});
  ReluBackward(stream, {.dout = dactivated, .out = FlatRows(context.keep(activated_)), .din = dactivated});
}

void GridDenseLayer::BackwardInput(const LayerContext& context) const {
  BackwardActivation(context);
  dense_.BackwardInput(context, context.din[0]);
}

void GridDenseLayer::Backward(const LayerContext& context) const {
  BackwardActivation(context);
  dense_.Backward(context, context.din[0]);
}

}  // namespace lycia
