#include "models/layers/grid_conv_unit.h"

#include "kernels/activation/relu.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/pool/pool.h"

namespace lycia {
namespace {

// Windows of one pixel: those that a filter 1x1 sees.
PoolShape SeenPixels(const ConvShape& seen) { return {.N = seen.N, .C = seen.C, .height = seen.height, .width = seen.width}; }
bool SeesAll(const ConvShape& seen) { return seen.P() == seen.H() && seen.Q() == seen.W(); }

}  // namespace

ConvShape GridConvUnit::WholeShape(const GridImages& in) const {
  const auto axis = [&](std::int64_t size) {
    const std::int64_t pad = options_.filter / 2;
    return ConvAxis{.in = size, .filter = options_.filter, .stride = options_.stride, .pad_before = pad, .pad_after = pad};
  };
  return {.N = in.samples, .C = in.channels, .K = options_.filters, .height = axis(in.height), .width = axis(in.width)};
}

StatusOr<GridConvShape> GridConvUnit::Fit(const Grid& grid, const GridImages& in) const {
  const ConvShape whole = WholeShape(in);
  const std::int64_t norm_samples = normed() ? options_.norm_samples : 1;
  if (in.whole || options_.keeps) {
    return FitWholeChannels(grid, in.channels_along, in.whole ? Spread::kReplicate : Spread::kColumns, whole, norm_samples);
  }
  return FitConv(grid, {.rows = Axis::kZ, .contraction = in.channels_along, .columns = in.samples_along()}, whole, norm_samples);
}

StatusOr<GridImages> GridConvUnit::Plan(const Grid& grid, const GridImages& in, Declare declare, LayerPlan& plan, GridScratch* scratch) {
  if (options_.keeps && options_.filter != 1) {
    return InvalidArgument(options_.name, " has filters of ", options_.filter, " x ", options_.filter,
                           ", but a result that lies as its input is one of filters 1 x 1");
  }
  StatusOr<GridConvShape> fit = Fit(grid, in);
  if (!fit.ok() && !in.whole && !options_.keeps) {
    return Annotate(fit.status(),
                    StrCat(options_.name, ", whose R, K, N are z, ", Name(in.channels_along), ", ", Name(in.samples_along())));
  }
  if (!fit.ok()) return Annotate(fit.status(), StrCat(options_.name, ", whose R is z and ", Name(in.samples_along())));
  shape_ = *fit;
  out_ = shape_.Out(plan.compute());
  LYCIA_RETURN_IF_ERROR(PlanProduct(in, declare, plan, scratch));
  plan.CountFlops(pixels_ ? 2.0 * static_cast<double>(out_.elements() * shape_.whole.C) : shape_.Brick().flops());
  const GridImages out{.samples = in.samples,
                       .height = shape_.whole.P(),
                       .width = shape_.whole.Q(),
                       .channels = shape_.whole.K,
                       .channels_along = shape_.roles.columns};
  const Sharding& lies = conv_ ? conv_->out() : pixels_->out();
  LYCIA_CHECK(lies == out.sharding()) << lies.ToString() << " ";
  if (normed()) {
    PlanNorm(out, declare, plan);
  } else if (options_.bias) {
    bias_ = declare(FilterVector(shape_, options_.name + ".bias"));
  }
  return out;
}

Status GridConvUnit::PlanProduct(const GridImages& in, Declare declare, LayerPlan& plan, GridScratch* scratch) {
  const GridParameter filter = ConvFilter(shape_, options_.name + ".weight", options_.weights_each_step);
  const ParameterHandle handle = declare(filter);
  if (!options_.keeps || in.whole) {
    LYCIA_ASSIGN_OR_RETURN(conv_, GridConv::Create({.shape = shape_,
                                                    .in = in.sharding(),
                                                    .input_gradient = options_.input_gradient,
                                                    .policy = options_.policy,
                                                    .weight = {filter, handle, handle}},
                                                   plan, scratch));
    return OkStatus();
  }
  const std::int64_t parts = shape_.grid->size(shape_.roles.columns);
  seen_ = shape_.whole;
  seen_.N = shape_.sizes.in_samples, seen_.C = shape_.sizes.channels;
  LYCIA_ASSIGN_OR_RETURN(pixels_, GridLinear::Create({.grid = shape_.grid,
                                                      .roles = shape_.roles,
                                                      .in = in.sharding(),
                                                      .in_parts = Spread::kColumns,
                                                      .rows = seen_.N * seen_.P() * seen_.Q(),
                                                      .in_width = shape_.sizes.channels * parts,
                                                      .out_width = shape_.sizes.filters,
                                                      .transposed = true,
                                                      .policy = options_.policy,
                                                      .weights = {{filter, handle, handle}}},
                                                     plan, scratch));
  if (dx_aside()) dseen_ = plan.Scratch({plan.compute(), {seen_.N, seen_.P(), seen_.Q(), seen_.C}});
  return OkStatus();
}

void GridConvUnit::PlanNorm(const GridImages& out, Declare declare, LayerPlan& plan) {
  const Grid& grid = *shape_.grid;
  norm_.Plan({.name = options_.norm,
              .gamma = declare(FilterVector(shape_, options_.norm + ".weight", Initial::kOne)),
              .beta = declare(FilterVector(shape_, options_.norm + ".bias")),
              .samples = options_.norm_samples,
              .momentum = options_.norm_momentum,
              .relu = options_.relu,
              .images = out_,
              .first_sample = out.first_sample(grid),
              .along = static_cast<int>(out.sharers())},
             plan);
  for (const char* of : {".running_mean", ".running_var"}) {
    states_.push_back({.name = options_.norm + of,
                       .tensor_shape = {shape_.whole.K},
                       .block = FilterVector(shape_, options_.norm + of).block,
                       .group = out.sharers()});
  }
}

bool GridConvUnit::dx_aside() const { return !SeesAll(seen_) || options_.adds || !options_.input_gradient; }

TransferHandle GridConvUnit::transfer() const { return conv_ ? conv_->transfer() : pixels_->transfer(); }

void GridConvUnit::Fetch(const LayerContext& context, TransferPlace& place) const {
  conv_ ? conv_->Fetch(context, place) : pixels_->Fetch(context, place);
}

Tensor GridConvUnit::Input(const LayerContext& context) const {
  if (conv_) return conv_->Input(context);
  const Tensor rows = pixels_->Input(context);
  return {rows.data, rows.dtype, {seen_.N, seen_.P(), seen_.Q(), seen_.C}};
}

void GridConvUnit::Take(const LayerContext& context, const ConstTensor& in) const {
  const Tensor input = Input(context);
  if (pixels_ && !SeesAll(seen_)) {
    AveragePoolForward(context.stream(), {.shape = SeenPixels(seen_), .in = in, .out = input});
  } else {
    context.stream().Copy(input.data, in.data, input.bytes());
  }
}

Tensor GridConvUnit::OutputGradient(const LayerContext& context) const {
  const Tensor rows = conv_ ? conv_->OutputGradient(context) : pixels_->OutputGradient(context);
  return {rows.data, rows.dtype, out_.shape};
}

void GridConvUnit::Forward(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const {
  const bool training = context.stage->training;
  const Tensor product = normed() && training ? norm_.Convolved(context) : out;
  const ConstTensor bias = !normed() && options_.bias ? ConstTensor(context.parameter(bias_)) : ConstTensor();
  conv_ ? conv_->Forward(context, product, bias) : pixels_->Forward(context, product, bias);
  if (normed()) {
    training ? norm_.Forward(context, residual, out) : norm_.Evaluate(context, residual, out);
    return;
  }
  LYCIA_CHECK(residual.data == nullptr) << "a residual without a norm ";
  if (options_.relu) ReluForward(context.stream(), {.in = out, .out = out});
}

void GridConvUnit::BackwardInput(const LayerContext& context, const InputGradient& args) const {
  BackwardNorm(context, args);
  BackwardProduct(context, args, /*weights=*/false);
}

void GridConvUnit::BackwardWeight(const LayerContext& context) const {
  conv_ ? conv_->BackwardWeight(context) : pixels_->BackwardWeight(context);
  BackwardVectors(context);
}

void GridConvUnit::Backward(const LayerContext& context, const InputGradient& args) const {
  BackwardNorm(context, args);
  BackwardProduct(context, args, /*weights=*/true);
  BackwardVectors(context);
}

void GridConvUnit::BackwardProduct(const LayerContext& context, const InputGradient& args, bool weights) const {
  if (conv_) return weights ? conv_->Backward(context, args.din) : conv_->BackwardInput(context, args.din);
  const Tensor dseen = dx_aside() ? context.temporary(dseen_) : args.din;
  weights ? pixels_->Backward(context, dseen) : pixels_->BackwardInput(context, dseen);
  if (!options_.input_gradient) return;
  if (!SeesAll(seen_)) {
    AveragePoolBackward(context.stream(), {.shape = SeenPixels(seen_), .dout = dseen, .din = args.din, .accumulate = options_.adds});
  } else if (options_.adds) {
    AddInPlace(context.stream(), {.x = args.din, .y = dseen});
  }
}

void GridConvUnit::BackwardNorm(const LayerContext& context, const InputGradient& args) const {
  Stream& stream = context.stream();
  const Tensor dproduct = OutputGradient(context);
  if (normed()) {
    norm_.BackwardInput(context, {.dout = args.dout, .out = args.out, .dconvolved = dproduct, .dresidual = args.dresidual});
  } else if (options_.relu) {
    ReluBackward(stream, {.dout = args.dout, .out = args.out, .din = dproduct});
  } else if (args.dout.data != dproduct.data) {
    stream.Copy(dproduct.data, args.dout.data, dproduct.bytes());
  }
}

void GridConvUnit::BackwardVectors(const LayerContext& context) const {
  if (normed()) {
    norm_.BackwardWeight(context);
  } else if (options_.bias) {
    BiasGradient(context.stream(), {.dout = AsMatrix(OutputGradient(context)), .dbias = context.gradient(bias_)});
  }
}

void GridConvUnit::MergeStates(const LayerContext& context) const {
  if (normed()) norm_.MergeStates(context);
}

}  // namespace lycia
