#include "models/layers/residual_block.h"

namespace lycia {

ResidualBlock::Units ResidualBlock::UnitsOf(const Options& options) {
  const std::string prefix = options.name + ".";
  const auto unit = [&](const std::string& conv, const std::string& norm, std::int64_t filters, std::int64_t filter, std::int64_t stride) {
    return ConvUnit::Options{.name = prefix + conv,
                             .norm = prefix + norm,
                             .filters = filters,
                             .filter = filter,
                             .stride = stride,
                             .norm_samples = options.norm_samples,
                             .norm_momentum = options.norm_momentum,
                             .reuse = options.reuse};
  };
  const std::int64_t width = options.width, out_width = options.bottleneck ? 4 * width : width;
  Units units;
  if (options.bottleneck) {
    units.path = {unit("conv1", "bn1", width, 1, 1), unit("conv2", "bn2", width, 3, options.stride), unit("conv3", "bn3", out_width, 1, 1)};
  } else {
    units.path = {unit("conv1", "bn1", width, 3, options.stride), unit("conv2", "bn2", width, 3, 1)};
  }
  units.projection = unit("downsample.0", "downsample.1", out_width, 1, options.stride);
  units.projection.relu = false;
  return units;
}

StatusOr<std::vector<TensorSpec>> ResidualBlock::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const Units units = UnitsOf(options_);
  for (const ConvUnit::Options& unit : units.path) units_.emplace_back(unit);
  plan.KeepInput(KeepUntil::kWeight);
  plan.KeepOutput();
  TensorSpec x = in[0];
  for (std::size_t i = 0; i < units_.size(); ++i) {
    LYCIA_ASSIGN_OR_RETURN(x, units_[i].Plan(x, plan));
    if (i + 1 == units_.size()) break;
    inner_.push_back(plan.Keep(x, KeepUntil::kWeight));
    dinner_.push_back(plan.Scratch(x));
  }
  if (x.shape == in[0].shape) return std::vector<TensorSpec>{x};
  projection_.emplace(units.projection);
  LYCIA_ASSIGN_OR_RETURN(const TensorSpec projected, projection_->Plan(in[0], plan));
  LYCIA_CHECK(projected == x);
  projected_ = plan.Scratch(x);
  return std::vector<TensorSpec>{x};
}

void ResidualBlock::Forward(const LayerContext& context) const {
  ConstTensor x = context.in[0], residual = context.in[0];
  if (projection_) {
    projection_->Forward(context, x, {}, context.temporary(projected_));
    residual = context.temporary(projected_);
  }
  for (std::size_t i = 0; i + 1 < units_.size(); ++i) {
    units_[i].Forward(context, x, {}, Inner(context, i));
    x = Inner(context, i);
  }
  units_.back().Forward(context, x, residual, context.out[0]);
}

void ResidualBlock::BackwardInput(const LayerContext& context) const {
  const Tensor& din = context.din[0];
  const Tensor dresidual = projection_ ? context.temporary(projected_) : din;
  for (std::size_t i = units_.size(); i-- > 0;) {
    const bool last = i + 1 == units_.size();
    units_[i].BackwardInput(context, {.dout = last ? ConstTensor(context.dout[0]) : context.temporary(dinner_[i]),
                                      .out = last ? context.out[0] : Inner(context, i),
                                      .din = i == 0 ? din : context.temporary(dinner_[i - 1]),
                                      .accumulate = i == 0,
                                      .dresidual = last ? dresidual : Tensor{}});
    // Before the first unit adds what comes down the main path.
    if (last && projection_) projection_->BackwardInput(context, {.dout = dresidual, .out = {}, .din = din});
  }
}

void ResidualBlock::BackwardWeight(const LayerContext& context) const {
  for (std::size_t i = 0; i < units_.size(); ++i) {
    units_[i].BackwardWeight(context, i == 0 ? context.in[0] : Inner(context, i - 1));
  }
  if (projection_) projection_->BackwardWeight(context, context.in[0]);
}

void ResidualBlock::MergeStates(const LayerContext& context) const {
  for (const ConvUnit& unit : units_) unit.MergeStates(context);
  if (projection_) projection_->MergeStates(context);
}

}  // namespace lycia
