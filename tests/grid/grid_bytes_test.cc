// The bytes and the memory of real layers on a dry-run grid against numbers that an independent simulation gave: two small grids to the
// byte, the table of docs/tensor_grid.md (h = m = 8192) to the last digit, and the closed forms at 512 and 4,096 ranks.
#include <cmath>
#include <optional>

#include "gtest/gtest.h"
#include "parallel/grid/vocabulary.h"
#include "runtime/comm/transports.h"
#include "tests/grid/grid_bytes_for_test.h"

namespace lycia {
namespace {

// One block (attention and MLP), or with `whole` the whole model, in f32 on one rank of a grid without data.
class DryRun {
 public:
  DryRun(GridCase c, int rank, bool whole) : case_(c) {
    const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, c.ranks());
    stream_ = device_->NewStream().value();
    const Mesh mesh = Mesh::Create({.x = c.x, .y = c.y, .z = c.z, .order = c.order}, c.ranks()).value();
    grid_ = Grid::Create(*world, mesh).value();
    case_.options.grid = grid_.get();
    std::vector<std::unique_ptr<GridLayer>> layers = GridGptLayers(case_.options).value();
    if (!whole) {
      layers.erase(layers.begin() + 3, layers.end());
      layers.erase(layers.begin());
    }
    const GridGptShape shape = FitGpt(case_.options).value();
    const TensorSpec tokens{DType::kI32, {shape.sizes.samples, case_.options.sequence}};
    std::vector<const GridLayer*> seen;
    std::vector<std::unique_ptr<Layer>> stage_layers;
    for (std::unique_ptr<GridLayer>& layer : layers) {
      seen.push_back(layer.get());
      stage_layers.push_back(std::move(layer));
    }
    stage_ = LayerStage::Create(std::move(stage_layers), {whole ? tokens : shape.Residual(DType::kF32)},
                                {.full_backward = !c.split, .split_backward = c.split})
                 .value();
    std::vector<GridParameter> parameters;
    for (const GridLayer* layer : seen) {
      for (const GridParameter& parameter : layer->grid_parameters()) {
        parameters.push_back(parameter);
        if (parameter.exchange != Exchange::kHandOver) owned_elements_ += parameter.Owned(*grid_).count;
      }
    }
    std::map<std::string, Shape> shapes;
    for (const ParameterSpec& spec : stage_->parameters()) shapes[spec.name] = spec.shape;
    const auto tensor = [shapes](const std::string& name) { return Tensor{nullptr, DType::kF32, shapes.at(name)}; };
    stage_->Bind({.stash = {nullptr},
                  .input = {nullptr},
                  .handoff = {nullptr},
                  .weight = tensor,
                  .gradient = [tensor](const std::string& name, int) { return tensor(name); }});
    exchange_ = std::make_unique<StepExchange>(*grid_, DType::kF32, parameters);
    std::vector<StepExchange::Binding> bindings;
    for (const GridParameter& parameter : exchange_->parameters()) {
      const Tensor owned{nullptr, DType::kF32, {parameter.Owned(*grid_).count}}, block = tensor(parameter.name);
      bindings.push_back({owned, owned, block, block});
    }
    exchange_->Bind(nullptr, bindings);
    context_.stream = stream_.get();
  }

  void Gather() { exchange_->Gather(*stream_); }
  void Forward() { stage_->Forward(context_, kSlots, nullptr); }
  void Backward() {
    if (!case_.split) return stage_->Backward(context_, kSlots, nullptr, nullptr);
    stage_->BackwardInput(context_, kSlots, nullptr, nullptr);
    stage_->BackwardWeight(context_, kSlots);
  }
  void Reduce() { exchange_->Reduce(*stream_); }
  void SumTheLoss() { SumLoss(*stream_, *grid_, {nullptr, DType::kF32, {1}}); }
  const Grid& grid() const { return *grid_; }
  std::int64_t owned_elements() const { return owned_elements_; }
  std::int64_t stash_bytes() const { return stage_->bytes(Area::kStash) + stage_->bytes(Area::kInput); }

  // Bytes with one of the tags so far, on one group or (nullopt) on all.
  std::int64_t Bytes(std::initializer_list<Tag> tags, std::optional<GridGroup> on = {}) const {
    std::int64_t bytes = 0;
    for (int g = 0; g < kNumGridGroups; ++g) {
      const Communicator* along = grid_->along(static_cast<GridGroup>(g));
      if (along == nullptr || (on && static_cast<int>(*on) != g)) continue;
      for (const auto& by_tag : along->counters().of) {
        for (const Tag tag : tags) bytes += by_tag[static_cast<std::size_t>(tag)].bytes;
      }
    }
    return bytes;
  }

 private:
  static constexpr StageSlots kSlots{.stash = 0, .input = 0, .handoff = 0};

  GridCase case_;
  std::unique_ptr<Device> device_ = NewShapeDevice();
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Grid> grid_;
  std::unique_ptr<LayerStage> stage_;
  std::unique_ptr<StepExchange> exchange_;
  StageContext context_;
  std::int64_t owned_elements_ = 0;
};

GridCase BlockCase(int x, int y, int z, std::int64_t samples, std::int64_t sequence, std::int64_t hidden, std::int64_t heads) {
  GridCase c{.x = x, .y = y, .z = z, .micro_batches = 1};
  c.options.model = {.layers = 1, .heads = heads, .hidden = hidden, .context = sequence, .vocab = 50304, .ffn = 4 * hidden};
  c.options.samples = samples;
  c.options.sequence = sequence;
  return c;
}

// B 6, s 12, h 48, 12 heads, f 192; activations and weights in bf16 there (twice as many bytes in f32), norms and vectors in f32.
TEST(GridBytes, TwoSmallGridsToTheByte) {
  struct Golden {
    int x, y, z;
    std::int64_t act, weight, norm, vector, act_again, weight_again;
  };
  for (const Golden& g : {Golden{2, 2, 2, 13824, 6912, 288, 792, 19872, 13824}, Golden{3, 2, 1, 32256, 0, 1152, 448, 46080, 0}}) {
    for (int rank = 0; rank < g.x * g.y * g.z; ++rank) {
      for (const bool again : {false, true}) {
        GridCase c = BlockCase(g.x, g.y, g.z, 6, 12, 48, 12);
        c.options.policy = {.cache_inputs = !again, .cache_weights = !again};
        DryRun run(c, rank, /*whole=*/false);
        run.Gather();
        run.Forward();
        EXPECT_EQ(run.Bytes({Tag::kActivation}), 2 * g.act) << "rank " << rank;
        EXPECT_EQ(run.Bytes({Tag::kWeight}), 2 * g.weight) << "rank " << rank;
        EXPECT_EQ(run.Bytes({Tag::kNorm}), g.norm) << "rank " << rank;
        EXPECT_EQ(run.Bytes({Tag::kVector}), g.vector) << "rank " << rank;
        run.Backward();
        run.Reduce();
        EXPECT_EQ(run.Bytes({Tag::kActivation}), 2 * (g.act + (again ? g.act_again : g.act))) << "rank " << rank;
        EXPECT_EQ(run.Bytes({Tag::kWeight, Tag::kGradient}), 2 * (g.weight + (again ? g.weight_again : g.weight))) << "rank " << rank;
        EXPECT_EQ(run.Bytes({Tag::kNorm}), 2 * g.norm) << "rank " << rank;
        EXPECT_EQ(run.Bytes({Tag::kVector}), 2 * g.vector) << "rank " << rank;
      }
    }
  }
}

// The table of docs/tensor_grid.md and more: MB of one rank and layer, forward + backward, bf16: by axis, in total, with gathers made
// again; cached X and W.
TEST(GridBytes, TableAtEightAndSixtyFourRanks) {
  struct Row {
    int x, y, z;
    double along_x, along_y, along_z, total, again, cached_x, cached_w;
  };
  for (const Row& row : {Row{1, 8, 1, 0, 939.5, 0, 939.5, 1174, 352, 201}, Row{1, 4, 2, 0, 402.7, 402.7, 805.3, 1107, 218, 403},
                         Row{2, 4, 1, 402.7, 402.7, 0, 805.3, 990, 302, 201}, Row{2, 2, 2, 402.7, 134.2, 402.7, 939.5, 1258, 235, 403},
                         Row{1, 1, 8, 0, 0, 2818.6, 2818.6, 4228, 117, 1611}, Row{1, 64, 1, 0, 1057.0, 0, 1057.0, 1321, 279, 25},
                         Row{8, 8, 1, 352.3, 117.4, 0, 469.8, 573, 117, 25}, Row{1, 8, 8, 0, 117.4, 352.3, 469.8, 675, 44, 201},
                         Row{4, 4, 4, 151.0, 50.3, 151.0, 352.3, 472, 59, 101}, Row{2, 8, 4, 50.3, 117.4, 151.0, 318.8, 434, 55, 101},
                         Row{4, 8, 2, 151.0, 117.4, 50.3, 318.8, 405, 76, 50}, Row{1, 1, 64, 0, 0, 3170.9, 3170.9, 4756, 15, 1611}}) {
    SCOPED_TRACE(StrCat(row.x, "x", row.y, "x", row.z));
    const auto megabytes = [](std::int64_t f32_bytes) { return static_cast<double>(f32_bytes) / 2 / 1e6; };
    GridCase c = BlockCase(row.x, row.y, row.z, 64, 128, 8192, 64);
    const int last = c.ranks() - 1;
    c.options.policy = {.cache_inputs = true, .cache_weights = true};
    DryRun cached(c, last, /*whole=*/false);
    cached.Forward();
    cached.Backward();
    const auto along = [&](GridGroup group) { return megabytes(cached.Bytes({Tag::kActivation, Tag::kWeight, Tag::kGradient}, group)); };
    EXPECT_NEAR(along(GridGroup::kX), row.along_x, 0.05);
    EXPECT_NEAR(along(GridGroup::kY), row.along_y, 0.05);
    EXPECT_NEAR(along(GridGroup::kZ), row.along_z, 0.05);
    EXPECT_NEAR(megabytes(cached.Bytes({Tag::kActivation, Tag::kWeight, Tag::kGradient})), row.total, 0.05);
    c.options.policy = {.cache_inputs = false, .cache_weights = false};
    DryRun plain(c, last, /*whole=*/false);
    plain.Forward();
    plain.Backward();
    EXPECT_NEAR(megabytes(plain.Bytes({Tag::kActivation, Tag::kWeight, Tag::kGradient})), row.again, 0.5);
    // Declared memory: the stash grows by what caching holds beyond this rank's own parts of X, which it holds anyway.
    const double m_h = 8192.0 * 8192.0, own_x = m_h * 7 / c.ranks(), own_w = row.z == 1 ? 12 * m_h / (row.x * row.y) : 0;
    EXPECT_NEAR(megabytes(cached.stash_bytes() - plain.stash_bytes()), row.cached_x - own_x * 2 / 1e6 + row.cached_w - own_w * 2 / 1e6,
                1.0);
    // Parameters are cut as many ways as there are ranks: 12 h² in matrices, 13 h in vectors.
    EXPECT_EQ(cached.owned_elements(), (12 * 8192 * 8192 + 13 * 8192) / c.ranks());
  }
}

TEST(GridBytes, WholeModelsEqualTheClosedFormsAtAnySize) {
  struct Size {
    int x, y, z;
    bool split;
    std::int64_t kv_heads = 0, vocab = 50304, ffn = 4 * 8192;
  };
  for (const Size& size : {Size{2, 8, 4, false}, Size{4, 16, 8, true}, Size{8, 8, 8, false}, Size{1, 64, 8, false}, Size{16, 16, 16, false},
                           Size{4, 16, 8, true, 8, 50257, 28671}, Size{2, 8, 4, false, 32, 50257, 28671}}) {
    GridCase c = BlockCase(size.x, size.y, size.z, 64, 1024, 8192, 256);
    c.options.model.kv_heads = size.kv_heads;
    c.options.model.vocab = size.vocab;
    c.options.model.ffn = size.ffn;
    c.split = size.split;
    c.options.policy.cache_output_gradients = !size.split;
    c.options.model.layers = 2;
    for (const int rank : {0, c.ranks() / 3, c.ranks() - 1}) {
      DryRun run(c, rank, /*whole=*/true);
      run.Gather();
      run.Forward();
      run.Backward();
      run.Reduce();
      run.SumTheLoss();
      const Status same = CompareBytes(run.grid(), c, 4, 1);
      EXPECT_TRUE(same.ok()) << same;
    }
  }
}

}  // namespace
}  // namespace lycia
