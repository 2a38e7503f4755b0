#include "models/grid_image_model.h"

#include <numeric>
#include <utility>

#include "models/image_parts.h"
#include "models/layers/grid_conv_block.h"
#include "models/layers/grid_dense_layer.h"
#include "models/layers/grid_image_head.h"
#include "models/layers/grid_local_layer.h"

namespace lycia {
namespace {

bool HasNorms(const ImageModelConfig& model) { return model.kind != ImageModelKind::kVgg16; }

// Adds the layer of a part and moves `at` behind it.
class Maker {
 public:
  explicit Maker(const GridImageOptions& options)
      : options_(options),
        at_{.samples = options.samples,
            .height = options.model.height,
            .width = options.model.width,
            .channels = options.model.channels,
            .whole = true} {}

  void operator()(const ConvUnit::Options& part) {
    Add(std::make_unique<GridConvBlock>(Block(part.name, {UnitOf(part)})));
    const Axis along = at_.whole ? at_.channels_along : at_.samples_along();
    at_ = Behind(at_, part, along);
  }
  void operator()(const PoolPart& part) {
    Add(std::make_unique<GridLocalLayer>(std::make_unique<PoolLayer>(part.name, part.window)));
    const auto out = [&](std::int64_t in) {
      return ConvAxis{
          .in = in, .filter = part.window.size, .stride = part.window.stride, .pad_before = part.window.pad, .pad_after = part.window.pad}
          .out();
    };
    at_.height = out(at_.height), at_.width = out(at_.width);
  }
  void operator()(const DenseLayer::Options& part) {
    Add(std::make_unique<GridDenseLayer>(GridDenseLayer::Options{.grid = options_.grid,
                                                                 .in = at_,
                                                                 .dense = DenseOf(part.name, part.units, /*variance_times_features=*/2),
                                                                 .dropout = part.dropout}));
    at_ = {.samples = at_.samples, .height = 1, .width = 1, .channels = part.units, .channels_along = at_.samples_along()};
  }
  void operator()(const ResidualBlock::Options& part) {
    const ResidualBlock::Units units = ResidualBlock::UnitsOf(part);
    GridConvBlock::Options block = Block(part.name, {});
    GridImages out = at_;
    for (const ConvUnit::Options& unit : units.path) {
      block.units.push_back(UnitOf(unit));
      out = Behind(out, unit, at_.channels_along);
    }
    // An odd number exchanges x and y: the last, of a bottleneck the one with the fewest channels to gather, keeps them.
    block.units.back().keeps = block.units.size() % 2 != 0;
    block.skip = true;
    if (out != at_) {
      block.projection = UnitOf(units.projection);
      block.projection->keeps = block.projection->adds = true;
    }
    Add(std::make_unique<GridConvBlock>(std::move(block)));
    at_ = out;
  }
  void operator()(const HeadPart& part) {
    Add(std::make_unique<GridImageHead>(GridImageHead::Options{
        .grid = options_.grid, .in = at_, .dense = DenseOf(part.name, part.classes, 1.0 / 3), .average = part.average}));
  }

  GridImageLayers Take() { return std::move(made_); }

 private:
  void Add(std::unique_ptr<GridLayer> layer) {
    made_.layers.push_back(std::move(layer));
    made_.in.push_back(at_);
  }
  static GridImages Behind(const GridImages& in, const ConvUnit::Options& unit, Axis channels_along) {
    const auto out = [&](std::int64_t size) {
      const std::int64_t pad = unit.filter / 2;
      return ConvAxis{.in = size, .filter = unit.filter, .stride = unit.stride, .pad_before = pad, .pad_after = pad}.out();
    };
    return {.samples = in.samples,
            .height = out(in.height),
            .width = out(in.width),
            .channels = unit.filters,
            .channels_along = channels_along};
  }
  GridConvUnit::Options UnitOf(const ConvUnit::Options& unit) const {
    return {.name = unit.name,
            .norm = unit.norm,
            .filters = unit.filters,
            .filter = unit.filter,
            .stride = unit.stride,
            .bias = unit.bias,
            .relu = unit.relu,
            .norm_samples = unit.norm_samples,
            .norm_momentum = unit.norm_momentum,
            .policy = options_.policy,
            .weights_each_step = options_.weights_each_step};
  }
  GridConvBlock::Options Block(const std::string& name, std::vector<GridConvUnit::Options> units) const {
    return {.name = name,
            .grid = options_.grid,
            .in = at_,
            .mean = options_.model.mean,
            .deviation = options_.model.deviation,
            .units = std::move(units),
            .input_gradient = !at_.whole};
  }
  GridDense::Options DenseOf(const std::string& name, std::int64_t units, double variance_times_features) const {
    return {.name = name,
            .units = units,
            .variance_times_features = variance_times_features,
            .policy = options_.policy,
            .weights_each_step = options_.weights_each_step};
  }

  const GridImageOptions& options_;
  GridImages at_;
  GridImageLayers made_;
};

}  // namespace

Status FitImages(const GridImageOptions& options) {
  const Grid& grid = *options.grid;
  const std::int64_t x = grid.size(Axis::kX), y = grid.size(Axis::kY), z = grid.size(Axis::kZ), unit = z * std::lcm(x, y);
  const std::int64_t norm = HasNorms(options.model) ? options.model.norm_samples : 1;
  if (options.samples % unit != 0) {
    return InvalidArgument("grid ", x, " x ", y, " x ", z, ": the ", options.samples,
                           " samples of a micro-batch (train.micro_batch) are cut by z, and then by x or y; use a multiple of ", unit,
                           ", or a smaller grid");
  }
  const std::int64_t most = options.samples / unit;
  if (most % norm != 0) {
    return InvalidArgument("grid ", x, " x ", y, " x ", z, ": a batch norm over ", norm,
                           " samples (model.norm_samples) must lie on one rank, but of ", options.samples,
                           " samples of a micro-batch a rank has parts of ", most, "; use model.norm_samples = ", std::gcd(most, norm),
                           ", or train.micro_batch = ", norm * unit);
  }
  return OkStatus();
}

StatusOr<GridImageLayers> MakeGridImageLayers(const GridImageOptions& options) {
  LYCIA_RETURN_IF_ERROR(Validate(options.model));
  LYCIA_RETURN_IF_ERROR(FitImages(options));
  Maker maker(options);
  for (const ImagePart& part : ImageModelParts(options.model)) std::visit(maker, part);
  return maker.Take();
}

}  // namespace lycia
