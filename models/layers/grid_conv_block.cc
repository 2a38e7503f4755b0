#include "models/layers/grid_conv_block.h"

#include "kernels/elementwise/elementwise.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GridConvBlock::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const Grid& grid = *options_.grid;
  const TensorSpec part = options_.in.Part(grid, plan.compute());
  const auto declare = [&](const GridParameter& parameter) { return Declare(grid, parameter, plan); };
  out_ = options_.in;
  for (GridConvUnit::Options unit : options_.units) {
    unit.input_gradient = options_.input_gradient || !units_.empty();
    LYCIA_ASSIGN_OR_RETURN(out_, units_.emplace_back(unit).Plan(grid, out_, declare, plan, &scratch_));
  }
  if (in[0] != part) return InvalidArgument("the input ", in[0].ToString(), " is not this rank's part ", part.ToString(), " of the images");
  if (options_.skip) {
    LYCIA_RETURN_IF_ERROR(CheckSkip());
    if (skips_back()) dskip_ = plan.Scratch(part);
  }
  if (options_.units.back().relu) plan.KeepOutput();
  scratch_.Declare(plan);
  return std::vector<TensorSpec>{units_.back().out_spec()};
}

Status GridConvBlock::CheckSkip() const {
  if (out_ != options_.in) {
    return InvalidArgument("the result of ", units_.size(), " convolutions, ", out_.height, " x ", out_.width, " of ", out_.channels,
                           " channels cut along ", Name(out_.channels_along), ", does not lie as the input, ", options_.in.height, " x ",
                           options_.in.width, " of ", options_.in.channels, " along ", Name(options_.in.channels_along),
                           ": a residual connection goes around an even number of convolutions that keep its sizes");
  }
  if (options_.units.back().norm.empty()) return InvalidArgument("a residual is added after a batch norm; give the last convolution one");
  return OkStatus();
}

void GridConvBlock::Forward(const LayerContext& context) const {
  const Tensor input = units_.front().Input(context);
  context.stream().Copy(input.data, context.in[0].data, input.bytes());
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const bool last = i + 1 == units_.size();
    units_[i].Forward(context, last && options_.skip ? ConstTensor(context.in[0]) : ConstTensor(),
                      last ? context.out[0] : units_[i + 1].Input(context));
  }
}

void GridConvBlock::BackwardInput(const LayerContext& context) const { BackwardThrough(context, /*weights=*/false); }

void GridConvBlock::BackwardWeight(const LayerContext& context) const {
  for (std::size_t i = units_.size(); i-- > 0;) units_[i].BackwardWeight(context);
}

void GridConvBlock::Backward(const LayerContext& context) const { BackwardThrough(context, /*weights=*/true); }

void GridConvBlock::BackwardThrough(const LayerContext& context, bool weights) const {
  const Tensor din = options_.input_gradient ? context.din[0] : Tensor{};
  for (std::size_t i = units_.size(); i-- > 0;) {
    const bool last = i + 1 == units_.size();
    const GridConvUnit::InputGradient args{.dout = last ? context.dout[0] : units_[i].OutputGradient(context),
                                           .out = last ? context.out[0] : units_[i + 1].Input(context),
                                           .din = i == 0 ? din : units_[i - 1].OutputGradient(context),
                                           .dresidual = last && skips_back() ? context.temporary(dskip_) : Tensor{}};
    weights ? units_[i].Backward(context, args) : units_[i].BackwardInput(context, args);
  }
  if (skips_back()) AddInPlace(context.stream(), {.x = din, .y = context.temporary(dskip_)});
}

void GridConvBlock::MergeStates(const LayerContext& context) const {
  for (const GridConvUnit& unit : units_) unit.MergeStates(context);
}

void GridConvBlock::Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const {
  for (const GridConvUnit& unit : units_) {
    if (unit.transfer() == transfer) return unit.Fetch(context, place);
  }
}

}  // namespace lycia
