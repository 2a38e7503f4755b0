#include "models/layers/grid_conv_block.h"

#include "kernels/elementwise/elementwise.h"

namespace lycia {

StatusOr<GridImages> GridConvBlock::PlanUnit(GridConvUnit& unit, const GridImages& in, LayerPlan& plan) {
  const Grid& grid = *options_.grid;
  const auto declare = [&](const GridParameter& parameter) { return Declare(grid, parameter, plan); };
  LYCIA_ASSIGN_OR_RETURN(const GridImages out, unit.Plan(grid, in, declare, plan, &scratch_));
  AddStates(unit.states());
  return out;
}

StatusOr<std::vector<TensorSpec>> GridConvBlock::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const TensorSpec part = options_.in.Part(*options_.grid, options_.in.whole ? DType::kU8 : plan.compute());
  GridImages around = options_.in;
  if (options_.projection) {
    GridConvUnit::Options unit = *options_.projection;
    unit.input_gradient = options_.input_gradient;
    LYCIA_ASSIGN_OR_RETURN(around, PlanUnit(projection_.emplace(unit), options_.in, plan));
    projected_ = plan.Scratch(projection_->out_spec());
  }
  out_ = options_.in;
  for (GridConvUnit::Options unit : options_.units) {
    unit.input_gradient = options_.input_gradient || !units_.empty();
    LYCIA_ASSIGN_OR_RETURN(out_, PlanUnit(units_.emplace_back(unit), out_, plan));
  }
  if (in[0] != part) return InvalidArgument("the input ", in[0].ToString(), " is not this rank's part ", part.ToString(), " of the images");
  if (options_.skip) LYCIA_RETURN_IF_ERROR(CheckSkip(around));
  if (skips_back()) dskip_ = plan.Scratch(units_.back().out_spec());
  if (options_.units.back().relu) plan.KeepOutput();
  scratch_.Declare(plan);
  return std::vector<TensorSpec>{units_.back().out_spec()};
}

Status GridConvBlock::CheckSkip(const GridImages& around) const {
  if (out_ != around) {
    return InvalidArgument("the result of ", units_.size(), " convolutions, ", out_.height, " x ", out_.width, " of ", out_.channels,
                           " channels cut along ", Name(out_.channels_along), ", does not lie as what goes around them, ", around.height,
                           " x ", around.width, " of ", around.channels, " along ", Name(around.channels_along),
                           ": a residual connection goes around an even number of convolutions that exchange the axes, and a projection "
                           "makes other sizes");
  }
  if (options_.units.back().norm.empty()) return InvalidArgument("a residual is added after a batch norm; give the last convolution one");
  return OkStatus();
}

void GridConvBlock::Forward(const LayerContext& context) const {
  const Tensor& in = context.in[0];
  ConstTensor residual = options_.skip ? ConstTensor(in) : ConstTensor();
  if (projection_) {
    const Tensor& projected = context.temporary(projected_);
    projection_->Take(context, in);
    projection_->Forward(context, {}, projected);
    residual = projected;
  }
  if (options_.in.whole) {
    NormalizeImages(context.stream(),
                    {.in = in, .mean = options_.mean, .deviation = options_.deviation, .out = units_.front().Input(context)});
  } else {
    units_.front().Take(context, in);
  }
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const bool last = i + 1 == units_.size();
    units_[i].Forward(context, last ? residual : ConstTensor(), last ? context.out[0] : units_[i + 1].Input(context));
  }
}

void GridConvBlock::BackwardInput(const LayerContext& context) const { BackwardThrough(context, /*weights=*/false); }

void GridConvBlock::BackwardWeight(const LayerContext& context) const {
  for (std::size_t i = units_.size(); i-- > 0;) units_[i].BackwardWeight(context);
  if (projection_) projection_->BackwardWeight(context);
}

void GridConvBlock::Backward(const LayerContext& context) const { BackwardThrough(context, /*weights=*/true); }

void GridConvBlock::BackwardThrough(const LayerContext& context, bool weights) const {
  const Tensor din = options_.input_gradient ? context.din[0] : Tensor{};
  const auto back = [&](const GridConvUnit& unit, const GridConvUnit::InputGradient& args) {
    weights ? unit.Backward(context, args) : unit.BackwardInput(context, args);
  };
  for (std::size_t i = units_.size(); i-- > 0;) {
    const bool last = i + 1 == units_.size();
    back(units_[i], {.dout = last ? context.dout[0] : units_[i].OutputGradient(context),
                     .out = last ? context.out[0] : units_[i + 1].Input(context),
                     .din = i == 0 ? din : units_[i - 1].OutputGradient(context),
                     .dresidual = last && skips_back() ? context.temporary(dskip_) : Tensor{}});
  }
  if (projection_) {
    back(*projection_, {.dout = context.temporary(dskip_), .out = {}, .din = din});
  } else if (skips_back()) {
    AddInPlace(context.stream(), {.x = din, .y = context.temporary(dskip_)});
  }
}

void GridConvBlock::MergeStates(const LayerContext& context) const {
  if (projection_) projection_->MergeStates(context);
  for (const GridConvUnit& unit : units_) unit.MergeStates(context);
}

void GridConvBlock::Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const {
  if (projection_ && projection_->transfer() == transfer) return projection_->Fetch(context, place);
  for (const GridConvUnit& unit : units_) {
    if (unit.transfer() == transfer) return unit.Fetch(context, place);
  }
}

}  // namespace lycia
