#include "models/layers/grid_gpt_parameters.h"

#include <cmath>

namespace lycia {
namespace {

using Ranges = std::vector<IndexRange>;

Ranges Features(const GridGptShape& shape) { return {{shape.coordinate(Axis::kX) * shape.sizes.features, shape.sizes.features}}; }

Ranges PartOfY(const GridGptShape& shape, std::int64_t size, std::int64_t width) {
  return PaddedPart(size, width, shape.coordinate(Axis::kY));
}

// All heads of one y: its parts (y, x) lie side by side.
Ranges HeadsOfY(const GridGptShape& shape) {
  const std::int64_t width = shape.grid().size(Axis::kX) * shape.sizes.heads * shape.options.model.head_dim();
  return {{shape.coordinate(Axis::kY) * width, width}};
}

// Columns q, k, v of one (y, x) part in c_attn.
Ranges QkvColumns(const GridGptShape& shape, std::int64_t part) {
  const GptConfig& model = shape.options.model;
  const std::int64_t D = model.head_dim(), H = model.heads, G = model.key_heads(), key = FirstKeyHead(shape, part);
  return {{part * shape.sizes.heads * D, shape.sizes.heads * D},
          {(H + key) * D, shape.sizes.kv_heads * D},
          {(H + G + key) * D, shape.sizes.kv_heads * D}};
}

Ranges AllKeyValueColumns(const GridGptShape& shape) {
  const GptConfig& model = shape.options.model;
  return {{model.heads * model.head_dim(), 2 * model.key_heads() * model.head_dim()}};
}

struct MatrixArgs {
  std::string tensor;
  Shape shape;
  Ranges rows, columns;
  Axis row_axis, column_axis;  // what cuts rows and columns
  bool residual = false;       // the projection back into the residual stream starts smaller
};

GridParameter CutMatrix(const GridGptShape& shape, const MatrixArgs& args) {
  const GptConfig& model = shape.options.model;
  const bool each_step = shape.options.weights_each_step;
  const Sharding cut = Sharding().With(args.row_axis, Spread::kRows).With(args.column_axis, Spread::kColumns);
  return {.name = args.tensor,
          .tensor = args.tensor,
          .tensor_shape = args.shape,
          .block = {.tensor_columns = args.shape[1], .rows = args.rows, .columns = args.columns},
          .group = GridGroup::kZ,
          .exchange = each_step ? Exchange::kEachStep : Exchange::kEachUse,
          .held = cut.With(Axis::kZ, Spread::kFlat),
          .gradient = cut.With(Axis::kZ, each_step ? Spread::kPartial : Spread::kFlat),
          .initial = Initial::kNormal,
          .std = args.residual ? model.init_std / std::sqrt(2.0 * static_cast<double>(model.layers)) : model.init_std,
          .decay = true};
}

// A vector (or a table of positions) whose working copy is shared by `group`; `cut` is how the copy is cut.
GridParameter SharedVector(const std::string& tensor, Ranges columns, GridGroup group, const Sharding& cut, std::int64_t size) {
  GridParameter parameter{.name = tensor,
                          .tensor = tensor,
                          .tensor_shape = {size},
                          .block = {.tensor_columns = size, .rows = {{0, 1}}, .columns = std::move(columns)},
                          .group = group,
                          .exchange = Exchange::kFused,
                          .held = cut,
                          .gradient = cut};
  for (const Axis axis : AxesOf(group)) {
    parameter.held = parameter.held.With(axis, Spread::kFlat);
    parameter.gradient = parameter.gradient.With(axis, Spread::kPartial);
  }
  return parameter;
}

constexpr Sharding kByX{.x = Spread::kColumns};
constexpr Sharding kByY{.y = Spread::kColumns};
constexpr Sharding kByXY{.x = Spread::kColumns, .y = Spread::kColumns};

}  // namespace

std::int64_t FirstKeyHead(const GridGptShape& shape, std::int64_t part) {
  return part * shape.sizes.heads / (shape.options.model.heads / shape.options.model.key_heads());
}

GridParameter QkvWeight(const GridGptShape& shape, const std::string& prefix) {
  const std::int64_t parts = shape.grid().size(Axis::kX);
  Ranges columns;
  for (std::int64_t x = 0; x < parts; ++x) {
    const Ranges part = QkvColumns(shape, shape.coordinate(Axis::kY) * parts + x);
    columns.insert(columns.end(), part.begin(), part.end());
  }
  return CutMatrix(shape, {.tensor = prefix + "attn.c_attn.weight",
                           .shape = {shape.options.model.hidden, shape.options.model.qkv_width()},
                           .rows = Features(shape),
                           .columns = columns,
                           .row_axis = Axis::kX,
                           .column_axis = Axis::kY});
}

GridParameter QueryWeight(const GridGptShape& shape, const std::string& prefix) {
  GridParameter parameter = QkvWeight(shape, prefix);
  parameter.name += ".q";
  parameter.block.columns = HeadsOfY(shape);
  return parameter;
}

GridParameter KeyValueWeight(const GridGptShape& shape, const std::string& prefix) {
  GridParameter parameter = QkvWeight(shape, prefix);
  parameter.name += ".kv";
  parameter.block.columns = AllKeyValueColumns(shape);
  parameter.group = GridGroup::kZY;
  parameter.held = parameter.held.With(Axis::kY, Spread::kFlat);
  const bool each_step = parameter.exchange == Exchange::kEachStep;
  parameter.gradient = parameter.gradient.With(Axis::kY, each_step ? Spread::kPartial : Spread::kFlat);
  return parameter;
}

GridParameter AttentionProjection(const GridGptShape& shape, const std::string& prefix) {
  const std::int64_t C = shape.options.model.hidden;
  return CutMatrix(shape, {.tensor = prefix + "attn.c_proj.weight",
                           .shape = {C, C},
                           .rows = HeadsOfY(shape),
                           .columns = Features(shape),
                           .row_axis = Axis::kY,
                           .column_axis = Axis::kX,
                           .residual = true});
}

GridParameter MlpWeight(const GridGptShape& shape, const std::string& prefix) {
  const GptConfig& model = shape.options.model;
  Ranges columns = PartOfY(shape, model.ffn, shape.sizes.ffn);
  if (model.gated()) {  // the gate's hidden units of this y, then up's, which lie behind all of the gate's
    const Ranges gate = columns;
    for (const IndexRange& range : gate) columns.push_back({range.first < 0 ? range.first : model.ffn + range.first, range.count});
  }
  return CutMatrix(shape, {.tensor = prefix + "mlp.c_fc.weight",
                           .shape = {model.hidden, model.ffn_width()},
                           .rows = Features(shape),
                           .columns = columns,
                           .row_axis = Axis::kX,
                           .column_axis = Axis::kY});
}

GridParameter MlpProjection(const GridGptShape& shape, const std::string& prefix) {
  const GptConfig& model = shape.options.model;
  return CutMatrix(shape, {.tensor = prefix + "mlp.c_proj.weight",
                           .shape = {model.ffn, model.hidden},
                           .rows = PartOfY(shape, model.ffn, shape.sizes.ffn),
                           .columns = Features(shape),
                           .row_axis = Axis::kY,
                           .column_axis = Axis::kX,
                           .residual = true});
}

GridParameter VocabularyTable(const GridGptShape& shape, const std::string& tensor, int use) {
  const GptConfig& model = shape.options.model;
  GridParameter parameter = CutMatrix(shape, {.tensor = tensor,
                                              .shape = {model.vocab, model.hidden},
                                              .rows = PartOfY(shape, model.vocab, shape.sizes.vocabulary),
                                              .columns = Features(shape),
                                              .row_axis = Axis::kY,
                                              .column_axis = Axis::kX});
  parameter.use = use;
  return parameter;
}

GridParameter TableHandOver(const GridGptShape& shape) {
  GridParameter parameter = VocabularyTable(shape, "wte.weight", 0);
  parameter.name = "wte.weight.head_gradient";
  parameter.exchange = Exchange::kHandOver;
  parameter.gradient = parameter.gradient.With(Axis::kZ, Spread::kPartial);
  return parameter;
}

GridParameter FeatureVector(const GridGptShape& shape, const std::string& name, Initial initial) {
  GridParameter parameter = SharedVector(name, Features(shape), GridGroup::kZY, kByX, shape.options.model.hidden);
  parameter.initial = initial;
  return parameter;
}

GridParameter QkvBias(const GridGptShape& shape, const std::string& prefix) {
  return SharedVector(prefix + "attn.c_attn.bias", QkvColumns(shape, shape.head_part()), GridGroup::kZ, kByXY,
                      shape.options.model.qkv_width());
}

GridParameter QueryBias(const GridGptShape& shape, const std::string& prefix) {
  GridParameter parameter = QkvBias(shape, prefix);
  parameter.name += ".q";
  parameter.block.columns.resize(1);
  return parameter;
}

GridParameter KeyValueBias(const GridGptShape& shape, const std::string& prefix) {
  GridParameter parameter =
      SharedVector(prefix + "attn.c_attn.bias", AllKeyValueColumns(shape), GridGroup::kXYZ, Sharding(), shape.options.model.qkv_width());
  parameter.name += ".kv";
  return parameter;
}

GridParameter MlpBias(const GridGptShape& shape, const std::string& prefix) {
  const std::int64_t F = shape.options.model.ffn;
  return SharedVector(prefix + "mlp.c_fc.bias", PartOfY(shape, F, shape.sizes.ffn), GridGroup::kZX, kByY, F);
}

GridParameter PositionTable(const GridGptShape& shape) {
  const GptConfig& model = shape.options.model;
  GridParameter parameter = SharedVector("wpe.weight", Features(shape), GridGroup::kZY, kByX, model.hidden);
  parameter.tensor_shape = {model.context, model.hidden};
  parameter.block.rows = {{0, model.context}};
  parameter.initial = Initial::kNormal;
  parameter.std = model.init_std;
  parameter.decay = true;
  return parameter;
}

}  // namespace lycia
