#include "parallel/grid/product.h"

namespace lycia {

using Use = GridScratch::Use;

StatusOr<GridProduct> GridProduct::Create(const Args& args, LayerPlan& plan, GridScratch* scratch) {
  GridProduct product(args, plan.compute(), scratch);
  LYCIA_RETURN_IF_ERROR(product.Type());
  const TensorSpec whole_in = product.WholeIn(), whole_out = product.WholeOut();
  product.input_ = plan.Keep(args.policy.cache_inputs ? whole_in : product.in_spec(), KeepUntil::kWeight);
  if (args.early_output_gradient) {
    product.early_output_gradient_ = plan.Keep(product.out_spec(), KeepUntil::kWeight);
    if (product.out_size() > 1 && args.policy.cache_output_gradients) product.output_gradient_ = plan.Handoff(whole_out);
  } else {
    product.output_gradient_ = plan.Handoff(args.policy.cache_output_gradients ? whole_out : product.out_spec());
  }
  if (product.in_size() > 1) {
    if (args.input_gradient || !args.policy.cache_inputs) scratch->Need(Use::kInput, whole_in.bytes());
    if (args.input_gradient) scratch->Need(product.UseOfInputGradient(), whole_in.bytes());
  }
  if (product.out_size() > 1) scratch->Need(Use::kOutput, whole_out.bytes());
  product.weights_ =
      GridWeights({.grid = args.grid, .policy = args.policy, .weights = args.weights, .backward = args.input_gradient}, plan);
  return product;
}

// The types of the rule; what a wrong role or a wrong cut would break.
Status GridProduct::Type() {
  const auto& [rows, contraction, columns] = args_.roles;
  if (args_.in.along(columns) != args_.in_parts)
    return absl::InternalError(StrCat("sharding: X is (", args_.in.ToString(), "), but the product takes it cut by ", Name(args_.in_parts),
                                      " along ", Name(columns)));
  Sharding x = args_.in;
  if (args_.in_parts != Spread::kReplicate) {
    LYCIA_ASSIGN_OR_RETURN(x, Gathered(args_.in, columns));
  } else if (args_.input_gradient) {
    return absl::InternalError(StrCat("sharding: dX of an X that is whole along ", Name(columns), " would be a sum that nobody makes"));
  }
  for (const GridWeight& weight : args_.weights) {
    Sharding w = args_.transposed ? weight.parameter.held.Transposed() : weight.parameter.held;
    for (const Axis axis : AxesOf(weight.parameter.group)) {
      LYCIA_ASSIGN_OR_RETURN(w, Gathered(w, axis));
    }
    if (w.along(columns) == Spread::kReplicate) {
      LYCIA_ASSIGN_OR_RETURN(w, Selected(w, columns, Spread::kColumns));
    }
    LYCIA_ASSIGN_OR_RETURN(out_, Product(x, w));
    if (!contraction) continue;
    LYCIA_ASSIGN_OR_RETURN(out_, Reduced(out_, *contraction, args_.out_parts));
  }
  return OkStatus();
}

// A part's place in the whole: parts lie one after the other, whether they are rows or columns.
Tensor GridProduct::PartOf(const Tensor& whole, int index, const TensorSpec& part) {
  char* data = static_cast<char*>(whole.data);
  return {data == nullptr ? nullptr : data + index * part.bytes(), part.dtype, part.shape};
}

Tensor GridProduct::Input(const LayerContext& context) const {
  const Tensor& kept = context.keep(input_);
  return args_.policy.cache_inputs ? PartOf(kept, in_size() > 1 ? args_.grid->coordinate(in_axis()) : 0, in_spec()) : kept;
}

Tensor GridProduct::OutputGradient(const LayerContext& context) const {
  if (args_.early_output_gradient) return context.keep(early_output_gradient_);
  const Tensor& handoff = context.handoff(output_gradient_);
  return args_.policy.cache_output_gradients ? PartOf(handoff, out_size() > 1 ? args_.grid->coordinate(out_axis()) : 0, out_spec())
                                             : handoff;
}

Event GridProduct::Started(Stream& stream, const Event& event) const {
  if (args_.policy.overlap) return event;
  AwaitAlways(stream, event);
  return {};
}

GridProduct::Arriving GridProduct::WholeInput(const LayerContext& context, bool backward) const {
  const Tensor& kept = context.keep(input_);
  if (in_size() == 1 || (backward && args_.policy.cache_inputs)) return {kept, {}};
  const Tensor whole = args_.policy.cache_inputs ? kept : scratch_->View(context, Use::kInput, WholeIn());
  Stream& stream = context.stream();
  return {whole, Started(stream, StartGather(stream, args_.grid->along(in_axis()), Input(context), whole, Tag::kActivation))};
}

GridProduct::Arriving GridProduct::WholeOutputGradient(const LayerContext& context, bool weight) const {
  if (out_size() == 1) return {OutputGradient(context), {}};
  const bool cached = args_.policy.cache_output_gradients;
  if (weight && cached && args_.input_gradient) return {context.handoff(output_gradient_), {}};
  const Tensor whole = cached ? context.handoff(output_gradient_) : scratch_->View(context, Use::kOutput, WholeOut());
  Stream& stream = context.stream();
  return {whole, Started(stream, StartGather(stream, args_.grid->along(out_axis()), OutputGradient(context), whole, Tag::kActivation))};
}

// X is gathered again while dX is on its way: then each has its own memory.
Use GridProduct::UseOfInputGradient() const {
  return args_.policy.overlap && !args_.policy.cache_inputs ? Use::kInputGradient : Use::kInput;
}

void GridProduct::Forward(const LayerContext& context, const Tensor& out, Multiply multiply) const {
  Stream& stream = context.stream();
  const auto [x, x_ready] = WholeInput(context, /*backward=*/false);
  const TransferPlace* place = weights_.BeginForward(context);
  const Blocks weights = weights_.Whole(context, place);
  AwaitAlways(stream, x_ready);
  if (out_size() == 1) return multiply(x, weights, out);
  const Tensor y = scratch_->View(context, Use::kOutput, WholeOut());
  multiply(x, weights, y);
  ReduceScatterAlong(stream, args_.grid->along(out_axis()), y, out, {.tag = Tag::kActivation});
}

void GridProduct::BackwardInput(const LayerContext& context, const Tensor& din, MultiplyBack back) const {
  if (!args_.input_gradient) return;
  Stream& stream = context.stream();
  const auto [dy, dy_ready] = WholeOutputGradient(context, /*weight=*/false);
  const TransferPlace* place = weights_.BeginBackwardInput(context);
  AwaitAlways(stream, dy_ready);
  AwaitAlways(stream, InputGradient(context, dy, weights_.Whole(context, place), din, back));
}

void GridProduct::BackwardWeight(const LayerContext& context, MultiplyWeight weight) const {
  Stream& stream = context.stream();
  const auto [x, x_ready] = WholeInput(context, /*backward=*/true);
  const auto [dy, dy_ready] = WholeOutputGradient(context, /*weight=*/true);
  TransferPlace* place = weights_.BeginBackwardWeight(context);
  AwaitAlways(stream, x_ready);
  AwaitAlways(stream, dy_ready);
  WeightGradient(context, x, dy, place, weight);
}

void GridProduct::Backward(const LayerContext& context, const Tensor& din, MultiplyBack back, MultiplyWeight weight) const {
  if (!args_.input_gradient) return BackwardWeight(context, weight);
  Stream& stream = context.stream();
  const auto [dy, dy_ready] = WholeOutputGradient(context, /*weight=*/false);
  // Before dX's reduce-scatter, which is on the same ranks. Without overlap both use the same memory, one after the other.
  Arriving x;
  if (args_.policy.overlap) x = WholeInput(context, /*backward=*/true);
  TransferPlace* place = weights_.BeginBackward(context);
  AwaitAlways(stream, dy_ready);
  const Event dx_ready = InputGradient(context, dy, weights_.Whole(context, place), din, back);
  if (!args_.policy.overlap) x = WholeInput(context, /*backward=*/true);
  AwaitAlways(stream, x.ready);
  WeightGradient(context, x.whole, dy, place, weight);
  AwaitAlways(stream, dx_ready);
}

Event GridProduct::InputGradient(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& din,
                                 MultiplyBack back) const {
  Stream& stream = context.stream();
  const bool reduce = in_size() > 1;
  const Tensor dx = reduce ? scratch_->View(context, UseOfInputGradient(), WholeIn()) : din;
  back(dy, weights, dx);
  if (!reduce) return {};
  return Started(stream, StartReduceScatter(stream, args_.grid->along(in_axis()), dx, din, {.tag = Tag::kActivation}));
}

void GridProduct::WeightGradient(const LayerContext& context, const Tensor& x, const Tensor& dy, TransferPlace* place,
                                 MultiplyWeight weight) const {
  const Blocks dweights = weights_.Gradients(context, place);
  weight(x, dy, dweights);
  weights_.Send(context, dweights, place);
}

}  // namespace lycia
