#include "models/layers/pool_layer.h"

namespace lycia {

PoolShape PoolLayer::ShapeFor(const Shape& in) const {
  const auto axis = [&](std::int64_t size) {
    return ConvAxis{.in = size, .filter = window_.size, .stride = window_.stride, .pad_before = window_.pad, .pad_after = window_.pad};
  };
  return {.N = in.dim(0), .C = in.dim(3), .height = axis(in.dim(1)), .width = axis(in.dim(2))};
}

StatusOr<std::vector<TensorSpec>> PoolLayer::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const PoolShape shape = ShapeFor(in[0].shape);
  LYCIA_RETURN_IF_ERROR(CheckPoolShape(shape, /*maximum=*/true));
  const Shape out{shape.N, shape.P(), shape.Q(), shape.C};
  winner_ = plan.Keep({DType::kU8, out}, KeepUntil::kInput);
  return std::vector<TensorSpec>{{in[0].dtype, out}};
}

void PoolLayer::Forward(const LayerContext& context) const {
  MaxPoolForward(context.stream(),
                 {.shape = ShapeFor(context.in[0].shape), .in = context.in[0], .out = context.out[0], .winner = context.keep(winner_)});
}

void PoolLayer::BackwardInput(const LayerContext& context) const {
  MaxPoolBackward(
      context.stream(),
      {.shape = ShapeFor(context.din[0].shape), .dout = context.dout[0], .winner = context.keep(winner_), .din = context.din[0]});
}

}  // namespace lycia
