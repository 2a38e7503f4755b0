#include "parallel/grid/linear.h"

#include "kernels/gemm/gemm.h"
#include "kernels/parts/bias.h"

namespace lycia {
namespace {

using Use = GridScratch::Use;

// Rows x columns of a matrix from an offset in elements.
Matrix SubMatrix(const Tensor& of, std::int64_t offset, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  char* data = static_cast<char*>(of.data);
  return {data == nullptr ? nullptr : data + offset * SizeOf(of.dtype), of.dtype, rows, columns, ld};
}

}  // namespace

StatusOr<GridLinear> GridLinear::Create(const Args& args, LayerPlan& plan, GridScratch* scratch) {
  GridLinear linear(args, plan.compute(), scratch);
  if (args.pieces.empty()) {
    LYCIA_CHECK_EQ(args.weights.size(), std::size_t{1});
    const std::int64_t parts = args.out_parts == Spread::kColumns ? linear.out_size() : 1, width = args.out_width / parts;
    for (std::int64_t p = 0; p < parts; ++p) linear.args_.pieces.push_back({{.weight = 0, .from = p * width, .at = 0, .width = width}});
  }
  LYCIA_RETURN_IF_ERROR(linear.Type());

  const TensorSpec whole_in{linear.dtype_, {args.rows * args.in_width}}, whole_out{linear.dtype_, {args.rows * args.out_width}};
  linear.input_ = plan.Keep(args.policy.cache_inputs ? whole_in : linear.in_spec(), KeepUntil::kWeight);
  if (args.early_output_gradient) {
    linear.early_output_gradient_ = plan.Keep(linear.out_spec(), KeepUntil::kWeight);
    if (linear.out_size() > 1 && args.policy.cache_output_gradients) linear.output_gradient_ = plan.Handoff(whole_out);
  } else {
    linear.output_gradient_ = plan.Handoff(args.policy.cache_output_gradients ? whole_out : linear.out_spec());
  }
  if (linear.in_size() > 1) {
    scratch->Need(Use::kInput, whole_in.bytes());
    scratch->Need(linear.UseOfInputGradient(), whole_in.bytes());
  }
  if (linear.out_size() > 1) scratch->Need(Use::kOutput, whole_out.bytes());
  linear.weights_ = GridWeights({.grid = args.grid, .policy = args.policy, .weights = args.weights}, plan);
  return linear;
}

// The types of the rule; what a wrong role or a wrong cut would break.
Status GridLinear::Type() {
  const auto [rows, contraction, columns] = args_.roles;
  if (args_.in.along(columns) != args_.in_parts)
    return absl::InternalError(StrCat("sharding: X is (", args_.in.ToString(), "), but the product takes it cut by ", Name(args_.in_parts),
                                      " along ", Name(columns)));
  LYCIA_ASSIGN_OR_RETURN(const Sharding x, Gathered(args_.in, columns));
  for (const GridWeight& weight : args_.weights) {
    Sharding w = args_.transposed ? weight.parameter.held.Transposed() : weight.parameter.held;
    for (const Axis axis : AxesOf(weight.parameter.group)) {
      LYCIA_ASSIGN_OR_RETURN(w, Gathered(w, axis));
    }
    if (w.along(columns) == Spread::kReplicate) {
      LYCIA_ASSIGN_OR_RETURN(w, Selected(w, columns, Spread::kColumns));
    }
    LYCIA_ASSIGN_OR_RETURN(const Sharding y, Product(x, w));
    LYCIA_ASSIGN_OR_RETURN(out_, Reduced(y, contraction, args_.out_parts));
  }
  return OkStatus();
}

TensorSpec GridLinear::PartSpec(Spread parts, int size, std::int64_t width) const {
  if (parts == Spread::kRows) return {dtype_, {args_.rows / size, width}};
  return {dtype_, {args_.rows, width / size}};
}

// A part's place in the whole: parts lie one after the other, whether they are rows or columns.
Tensor GridLinear::PartOf(const Tensor& whole, Axis axis, const TensorSpec& part) const {
  char* data = static_cast<char*>(whole.data);
  return {data == nullptr ? nullptr : data + args_.grid->coordinate(axis) * part.bytes(), part.dtype, part.shape};
}

Tensor GridLinear::Input(const LayerContext& context) const {
  const Tensor& kept = context.keep(input_);
  return args_.policy.cache_inputs ? PartOf(kept, in_axis(), in_spec()) : kept;
}

Tensor GridLinear::OutputGradient(const LayerContext& context) const {
  if (args_.early_output_gradient) return context.keep(early_output_gradient_);
  const Tensor& handoff = context.handoff(output_gradient_);
  return args_.policy.cache_output_gradients ? PartOf(handoff, out_axis(), out_spec()) : handoff;
}

Event GridLinear::Started(Stream& stream, const Event& event) const {
  if (args_.policy.overlap) return event;
  AwaitAlways(stream, event);
  return {};
}

GridLinear::Arriving GridLinear::WholeInput(const LayerContext& context, bool backward) const {
  const Tensor& kept = context.keep(input_);
  if (in_size() == 1 || (backward && args_.policy.cache_inputs)) return {kept, {}};
  const Tensor whole = args_.policy.cache_inputs ? kept : scratch_->View(context, Use::kInput, {dtype_, {args_.rows * args_.in_width}});
  Stream& stream = context.stream();
  return {whole, Started(stream, StartGather(stream, args_.grid->along(in_axis()), Input(context), whole, Tag::kActivation))};
}

GridLinear::Arriving GridLinear::WholeOutputGradient(const LayerContext& context, bool weight) const {
  if (out_size() == 1) return {OutputGradient(context), {}};
  const bool cached = args_.policy.cache_output_gradients;
  if (weight && cached) return {context.handoff(output_gradient_), {}};
  const Tensor whole =
      cached ? context.handoff(output_gradient_) : scratch_->View(context, Use::kOutput, {dtype_, {args_.rows * args_.out_width}});
  Stream& stream = context.stream();
  return {whole, Started(stream, StartGather(stream, args_.grid->along(out_axis()), OutputGradient(context), whole, Tag::kActivation))};
}

// X is gathered again while dX is on its way: then each has its own memory.
Use GridLinear::UseOfInputGradient() const {
  return args_.policy.overlap && !args_.policy.cache_inputs ? Use::kInputGradient : Use::kInput;
}

// Of one product: elements to skip in X and Y (or their gradients) and in the weight's block, and sizes.
struct BrickProduct {
  std::size_t weight;
  std::int64_t x, x_width;
  std::int64_t y, y_width, y_ld;
  std::int64_t w, w_ld;
  bool first_of_x, first_of_y;  // the first product that adds to this part of X, of Y
  std::int64_t bias;
};

template <typename F>
void GridLinear::ForEachProduct(const F& visit) const {
  const std::int64_t in_parts = args_.in_parts == Spread::kColumns ? in_size() : 1, in_width = args_.in_width / in_parts;
  const std::int64_t out_parts = static_cast<std::int64_t>(args_.pieces.size()), out_width = args_.out_width / out_parts;
  for (std::int64_t o = 0; o < out_parts; ++o) {
    bool first_piece = true;
    for (const WeightPiece& piece : args_.pieces[static_cast<std::size_t>(o)]) {
      const std::size_t weight = static_cast<std::size_t>(piece.weight);
      const std::int64_t ld = args_.weights[weight].parameter.block.num_columns();
      for (std::int64_t i = 0; i < in_parts; ++i) {
        visit(BrickProduct{.weight = weight,
                           .x = i * args_.rows * in_width,
                           .x_width = in_width,
                           .y = o * args_.rows * out_width + piece.at,
                           .y_width = piece.width,
                           .y_ld = out_width,
                           .w = args_.transposed ? piece.from * ld + i * in_width : i * in_width * ld + piece.from,
                           .w_ld = ld,
                           .first_of_x = o == 0 && first_piece,
                           .first_of_y = i == 0,
                           .bias = piece.at});
      }
      first_piece = false;
    }
  }
}

void GridLinear::Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const {
  Stream& stream = context.stream();
  const auto [x, x_ready] = WholeInput(context, /*backward=*/false);
  const TransferPlace* place = weights_.BeginForward(context);
  const Blocks weights = weights_.Whole(context, place);
  AwaitAlways(stream, x_ready);
  const bool reduce = out_size() > 1;
  const Tensor y = reduce ? scratch_->View(context, Use::kOutput, {dtype_, {args_.rows * args_.out_width}}) : out;
  ForEachProduct([&](const BrickProduct& p) {
    const Matrix w = args_.transposed ? SubMatrix(weights[p.weight], p.w, p.y_width, p.x_width, p.w_ld)
                                      : SubMatrix(weights[p.weight], p.w, p.x_width, p.y_width, p.w_ld);
    GemmArgs gemm{.a = SubMatrix(x, p.x, args_.rows, p.x_width, p.x_width),
                  .b = w,
                  .transpose_b = args_.transposed,
                  .c = SubMatrix(y, p.y, args_.rows, p.y_width, p.y_ld),
                  .accumulate = !p.first_of_y};
    if (!reduce && p.first_of_y && bias.data != nullptr) {
      const char* data = static_cast<const char*>(bias.data) + p.bias * SizeOf(bias.dtype);
      gemm.bias = ConstTensor(data, bias.dtype, {p.y_width});
    }
    Gemm(stream, gemm);
  });
  if (!reduce) return;
  ReduceScatterAlong(stream, args_.grid->along(out_axis()), y, out, {.tag = Tag::kActivation});
  if (bias.shape.rank() > 0) AddBias(stream, {.rows = out, .bias = bias});
}

void GridLinear::BackwardInput(const LayerContext& context, const Tensor& din) const {
  Stream& stream = context.stream();
  const auto [dy, dy_ready] = WholeOutputGradient(context, /*weight=*/false);
  const TransferPlace* place = weights_.BeginBackwardInput(context);
  AwaitAlways(stream, dy_ready);
  AwaitAlways(stream, InputGradient(context, dy, weights_.Whole(context, place), din));
}

void GridLinear::BackwardWeight(const LayerContext& context) const {
  Stream& stream = context.stream();
  const auto [x, x_ready] = WholeInput(context, /*backward=*/true);
  const auto [dy, dy_ready] = WholeOutputGradient(context, /*weight=*/true);
  TransferPlace* place = weights_.BeginBackwardWeight(context);
  AwaitAlways(stream, x_ready);
  AwaitAlways(stream, dy_ready);
  WeightGradient(context, x, dy, place);
}

void GridLinear::Backward(const LayerContext& context, const Tensor& din) const {
  Stream& stream = context.stream();
  const auto [dy, dy_ready] = WholeOutputGradient(context, /*weight=*/false);
  // Before dX's reduce-scatter, which is on the same ranks. Without overlap both use the same memory, one after the other.
  Arriving x;
  if (args_.policy.overlap) x = WholeInput(context, /*backward=*/true);
  TransferPlace* place = weights_.BeginBackward(context);
  AwaitAlways(stream, dy_ready);
  const Event dx_ready = InputGradient(context, dy, weights_.Whole(context, place), din);
  if (!args_.policy.overlap) x = WholeInput(context, /*backward=*/true);
  AwaitAlways(stream, x.ready);
  WeightGradient(context, x.whole, dy, place);
  AwaitAlways(stream, dx_ready);
}

Event GridLinear::InputGradient(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& din) const {
  Stream& stream = context.stream();
  const bool reduce = in_size() > 1;
  const Tensor dx = reduce ? scratch_->View(context, UseOfInputGradient(), {dtype_, {args_.rows * args_.in_width}}) : din;
  ForEachProduct([&](const BrickProduct& p) {
    const Matrix w = args_.transposed ? SubMatrix(weights[p.weight], p.w, p.y_width, p.x_width, p.w_ld)
                                      : SubMatrix(weights[p.weight], p.w, p.x_width, p.y_width, p.w_ld);
    Gemm(stream, {.a = SubMatrix(dy, p.y, args_.rows, p.y_width, p.y_ld),
                  .b = w,
                  .transpose_b = !args_.transposed,
                  .c = SubMatrix(dx, p.x, args_.rows, p.x_width, p.x_width),
                  .accumulate = !p.first_of_x});
  });
  if (!reduce) return {};
  return Started(stream, StartReduceScatter(stream, args_.grid->along(in_axis()), dx, din, {.tag = Tag::kActivation}));
}

void GridLinear::WeightGradient(const LayerContext& context, const Tensor& x, const Tensor& dy, TransferPlace* place) const {
  Stream& stream = context.stream();
  const Blocks dweights = weights_.Gradients(context, place);
  ForEachProduct([&](const BrickProduct& p) {
    const Matrix dw = args_.transposed ? SubMatrix(dweights[p.weight], p.w, p.y_width, p.x_width, p.w_ld)
                                       : SubMatrix(dweights[p.weight], p.w, p.x_width, p.y_width, p.w_ld);
    const Matrix x_part = SubMatrix(x, p.x, args_.rows, p.x_width, p.x_width);
    const Matrix dy_part = SubMatrix(dy, p.y, args_.rows, p.y_width, p.y_ld);
    Gemm(stream, {.a = args_.transposed ? dy_part : x_part,
                  .transpose_a = true,
                  .b = args_.transposed ? x_part : dy_part,
                  .c = dw,
                  .accumulate = true});
  });
  weights_.Send(context, dweights, place);
}

}  // namespace lycia
