#include "parallel/grid/linear.h"

#include <utility>

#include "kernels/gemm/gemm.h"
#include "kernels/parts/bias.h"

namespace lycia {
namespace {

// Rows x columns of a matrix from an offset in elements.
Matrix SubMatrix(const Tensor& of, std::int64_t offset, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  char* data = static_cast<char*>(of.data);
  return {data == nullptr ? nullptr : data + offset * SizeOf(of.dtype), of.dtype, rows, columns, ld};
}

// One of `size` parts of rows x width elements.
TensorSpec PartSpec(DType dtype, Spread parts, int size, std::int64_t rows, std::int64_t width) {
  if (parts == Spread::kRows) return {dtype, {rows / size, width}};
  return {dtype, {rows, width / size}};
}

}  // namespace

StatusOr<GridLinear> GridLinear::Create(const Args& args, LayerPlan& plan, GridScratch* scratch) {
  const int in_size = args.grid->size(args.roles.columns), out_size = args.roles.contraction ? args.grid->size(*args.roles.contraction) : 1;
  LYCIA_ASSIGN_OR_RETURN(GridProduct product,
                         GridProduct::Create({.grid = args.grid,
                                              .roles = args.roles,
                                              .in = args.in,
                                              .in_parts = args.in_parts,
                                              .out_parts = args.out_parts,
                                              .in_part = PartSpec(plan.compute(), args.in_parts, in_size, args.rows, args.in_width),
                                              .out_part = PartSpec(plan.compute(), args.out_parts, out_size, args.rows, args.out_width),
                                              .transposed = args.transposed,
                                              .early_output_gradient = args.early_output_gradient,
                                              .policy = args.policy,
                                              .weights = args.weights},
                                             plan, scratch));
  GridLinear linear(args, std::move(product));
  if (args.pieces.empty()) {
    LYCIA_CHECK_EQ(args.weights.size(), std::size_t{1});
    const std::int64_t parts = args.out_parts == Spread::kColumns ? out_size : 1, width = args.out_width / parts;
    for (std::int64_t p = 0; p < parts; ++p) linear.args_.pieces.push_back({{.weight = 0, .from = p * width, .at = 0, .width = width}});
  }
  linear.PlanPacks(plan);
  return linear;
}

// Of one product: elements to skip in X and Y (or their gradients) and in the weight's block, and sizes.
struct BrickProduct {
  std::size_t weight;
  std::int64_t x, x_width;
  std::int64_t y, y_width, y_ld;
  std::int64_t w, w_ld;
  bool first_of_x, first_of_y;  // the first product that adds to this part of X, of Y
  std::int64_t bias;
  std::size_t number;
};

template <typename F>
void GridLinear::ForEachProduct(const F& visit) const {
  const std::int64_t in_parts = args_.in_parts == Spread::kColumns ? product_.in_size() : 1, in_width = args_.in_width / in_parts;
  const std::int64_t out_parts = static_cast<std::int64_t>(args_.pieces.size()), out_width = args_.out_width / out_parts;
  std::size_t number = 0;
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
                           .bias = piece.at,
                           .number = number++});
      }
      first_piece = false;
    }
  }
}

void GridLinear::PlanPacks(LayerPlan& plan) {
  ForEachProduct([&](const BrickProduct& p) {
    const GridWeight& weight = args_.weights[p.weight];
    const bool each_use = weight.parameter.exchange == Exchange::kEachUse && args_.grid->size(weight.parameter.group) > 1;
    const LayerPlan::WeightBlock block{
        .offset = p.w, .rows = args_.transposed ? p.y_width : p.x_width, .columns = args_.transposed ? p.x_width : p.y_width, .ld = p.w_ld};
    packed_.push_back(each_use ? PackedHandle{} : plan.Packed(weight.weight, block, args_.transposed));
    packed_back_.push_back(each_use ? PackedHandle{} : plan.Packed(weight.weight, block, !args_.transposed));
  });
}

void GridLinear::Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const {
  Stream& stream = context.stream();
  const bool reduce = product_.out_size() > 1;
  product_.Forward(context, out, [&](const Tensor& x, const Blocks& weights, const Tensor& y) {
    ForEachProduct([&](const BrickProduct& p) {
      const Matrix w = args_.transposed ? SubMatrix(weights[p.weight], p.w, p.y_width, p.x_width, p.w_ld)
                                        : SubMatrix(weights[p.weight], p.w, p.x_width, p.y_width, p.w_ld);
      GemmArgs gemm{.a = SubMatrix(x, p.x, args_.rows, p.x_width, p.x_width),
                    .b = w,
                    .transpose_b = args_.transposed,
                    .c = SubMatrix(y, p.y, args_.rows, p.y_width, p.y_ld),
                    .accumulate = !p.first_of_y,
                    .packed_b = context.packed(packed_[p.number])};
      if (!reduce && p.first_of_y && bias.data != nullptr) {
        const char* data = static_cast<const char*>(bias.data) + p.bias * SizeOf(bias.dtype);
        gemm.bias = ConstTensor(data, bias.dtype, {p.y_width});
      }
      Gemm(stream, gemm);
    });
  });
  if (reduce && bias.shape.rank() > 0) AddBias(stream, {.rows = out, .bias = bias});
}

void GridLinear::BackwardInput(const LayerContext& context, const Tensor& din) const {
  product_.BackwardInput(context, din,
                         [&](const Tensor& dy, const Blocks& weights, const Tensor& dx) { MultiplyBack(context, dy, weights, dx); });
}

void GridLinear::BackwardWeight(const LayerContext& context) const {
  product_.BackwardWeight(
      context, [&](const Tensor& x, const Tensor& dy, const Blocks& dweights) { MultiplyWeight(context.stream(), x, dy, dweights); });
}

void GridLinear::Backward(const LayerContext& context, const Tensor& din) const {
  product_.Backward(
      context, din, [&](const Tensor& dy, const Blocks& weights, const Tensor& dx) { MultiplyBack(context, dy, weights, dx); },
      [&](const Tensor& x, const Tensor& dy, const Blocks& dweights) { MultiplyWeight(context.stream(), x, dy, dweights); });
}

void GridLinear::MultiplyBack(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& dx) const {
  ForEachProduct([&](const BrickProduct& p) {
    const Matrix w = args_.transposed ? SubMatrix(weights[p.weight], p.w, p.y_width, p.x_width, p.w_ld)
                                      : SubMatrix(weights[p.weight], p.w, p.x_width, p.y_width, p.w_ld);
    Gemm(context.stream(), {.a = SubMatrix(dy, p.y, args_.rows, p.y_width, p.y_ld),
                            .b = w,
                            .transpose_b = !args_.transposed,
                            .c = SubMatrix(dx, p.x, args_.rows, p.x_width, p.x_width),
                            .accumulate = !p.first_of_x,
                            .packed_b = context.packed(packed_back_[p.number])});
  });
}

void GridLinear::MultiplyWeight(Stream& stream, const Tensor& x, const Tensor& dy, const Blocks& dweights) const {
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
}

}  // namespace lycia
