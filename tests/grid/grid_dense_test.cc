// Dense layers of image models on grids against plain loops in f64: flattened images, units and channels that the axes do not divide, and
// dropout by global index, which a layer that counts its own samples or units gets wrong.
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/layers/grid_dense_layer.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/comm/transports.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

using Numbers = std::vector<double>;

constexpr std::uint64_t kSeed = 3;
constexpr std::int64_t kStep = 2, kFirstSample = 24, kSamples = 12, kHeight = 2, kWidth = 3, kChannels = 5, kUnits[] = {7, 4};
constexpr double kRate = 0.3;
constexpr const char* kNames[] = {"a", "b"};

double Random(const std::string& of, std::int64_t index) { return RandomStream(1, of, 0).Normal(static_cast<std::uint64_t>(index)); }

// What a step makes, by the tensors' own indices.
struct Step {
  Numbers out, din;
  std::map<std::string, Numbers> gradients;
};

Step Serial() {
  std::int64_t features = kHeight * kWidth * kChannels;
  Numbers x(static_cast<std::size_t>(kSamples * features));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = Random("in", static_cast<std::int64_t>(i));
  Numbers inputs[2], scales[2];  // of each layer: what it reads; the slope of its dropout and ReLU
  for (int layer = 0; layer < 2; ++layer) {
    const std::int64_t units = kUnits[layer];
    const std::string name = kNames[layer];
    const RandomStream mask(kSeed, "dropout/" + name, kStep);
    inputs[layer] = x;
    Numbers y(static_cast<std::size_t>(kSamples * units)), slope(y.size());
    for (std::int64_t i = 0; i < kSamples * units; ++i) {
      const std::int64_t n = i / units, u = i % units;
      double sum = Random(name + ".bias", u);
      for (std::int64_t f = 0; f < features; ++f) {
        sum += x[static_cast<std::size_t>(n * features + f)] * Random(name + ".weight", u * features + f);
      }
      const bool kept = mask.Uniform(static_cast<std::uint64_t>((kFirstSample + n) * units + u)) >= kRate;
      slope[static_cast<std::size_t>(i)] = kept && sum > 0 ? 1 / (1 - kRate) : 0;
      y[static_cast<std::size_t>(i)] = sum * slope[static_cast<std::size_t>(i)];
    }
    x = y, scales[layer] = slope, features = units;
  }
  Step step{.out = x, .din = {}, .gradients = {}};
  Numbers d(x.size());
  for (std::size_t i = 0; i < d.size(); ++i) d[i] = Random("dout", static_cast<std::int64_t>(i));
  for (int layer = 1; layer >= 0; --layer) {
    const std::int64_t units = kUnits[layer], F = static_cast<std::int64_t>(inputs[layer].size()) / kSamples;
    const std::string name = kNames[layer];
    Numbers &dw = step.gradients[name + ".weight"], &db = step.gradients[name + ".bias"], din(inputs[layer].size());
    dw.resize(static_cast<std::size_t>(units * F)), db.resize(static_cast<std::size_t>(units));
    for (std::int64_t i = 0; i < kSamples * units; ++i) {
      const std::int64_t n = i / units, u = i % units;
      const double g = d[static_cast<std::size_t>(i)] * scales[layer][static_cast<std::size_t>(i)];
      db[static_cast<std::size_t>(u)] += g;
      for (std::int64_t f = 0; f < F; ++f) {
        dw[static_cast<std::size_t>(u * F + f)] += g * inputs[layer][static_cast<std::size_t>(n * F + f)];
        din[static_cast<std::size_t>(n * F + f)] += g * Random(name + ".weight", u * F + f);
      }
    }
    d = din;
  }
  step.din = d;
  return step;
}

// f(element of the part, element of all images; -1: padding)
template <typename F>
void ForEachElement(const GridImages& images, const Grid& grid, const F& f) {
  const std::int64_t width = images.part_channels(grid), rows = images.part_samples(grid) * images.height * images.width;
  const std::int64_t first_row = images.first_sample(grid) * images.height * images.width;
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const std::int64_t c = grid.coordinate(images.channels_along) * width + i % width;
    f(i, c < images.channels ? (first_row + i / width) * images.channels + c : -1);
  }
}

// One rank's part of the step, added to what the others have made.
Status RunRank(Communicator& world, const Mesh& mesh, Axis along, bool cached, Step& all, std::mutex& mutex) {
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Grid> grid, Grid::Create(world, mesh));
  const GridPolicy policy{.cache_inputs = cached, .cache_weights = cached};
  const GridImages in{.samples = kSamples, .height = kHeight, .width = kWidth, .channels = kChannels, .channels_along = along};
  const GridImages between{.samples = kSamples, .height = 1, .width = 1, .channels = kUnits[0], .channels_along = in.samples_along()};
  const GridImages out{.samples = kSamples, .height = 1, .width = 1, .channels = kUnits[1], .channels_along = along};
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<const GridDenseLayer*> seen;
  for (int i = 0; i < 2; ++i) {
    auto layer =
        std::make_unique<GridDenseLayer>(GridDenseLayer::Options{.grid = grid.get(),
                                                                 .in = i == 0 ? in : between,
                                                                 .dense = {.name = kNames[i], .units = kUnits[i], .policy = policy},
                                                                 .dropout = kRate});
    seen.push_back(layer.get());
    layers.push_back(std::move(layer));
  }
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<LayerStage> stage,
                         LayerStage::Create(std::move(layers), {in.Part(*grid, DType::kF64)}, {.compute = DType::kF64}));
  StageMemoryForTest memory(*stage, 1);
  const auto elements = [&](const GridParameter& p) {
    return p.exchange == Exchange::kEachUse ? p.OwnedRuns(*grid) : Runs(p.block, 0, p.block.elements());
  };
  for (const GridDenseLayer* layer : seen) {
    for (const GridParameter& p : layer->grid_parameters()) {
      for (const ElementRun& run : elements(p)) {
        for (std::int64_t i = 0; i < run.count && run.tensor >= 0; ++i) {
          memory.weights().at(p.name)[static_cast<std::size_t>(run.local + i)] = Random(p.name, run.tensor + i);
        }
      }
    }
  }
  const std::unique_ptr<Device> device = NewCpuDevice();
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  StageContext context{.stream = stream.get(), .seed = kSeed, .step = kStep, .samples = {kFirstSample, kSamples}};
  const StageSlots slots{.stash = 0, .input = 0, .handoff = 0};
  Numbers y(static_cast<std::size_t>(stage->outputs()[0].elements())), dy(y.size()),
      dx(static_cast<std::size_t>(stage->inputs()[0].elements()));
  ForEachElement(in, *grid, [&](std::int64_t i, std::int64_t global) {
    static_cast<double*>(stage->input(slots))[i] = global < 0 ? 0 : Random("in", global);
  });
  ForEachElement(out, *grid,
                 [&](std::int64_t i, std::int64_t global) { dy[static_cast<std::size_t>(i)] = global < 0 ? 0 : Random("dout", global); });
  stage->Forward(context, slots, y.data());
  stage->Backward(context, slots, dy.data(), dx.data());
  LYCIA_RETURN_IF_ERROR(stream->Synchronize());
  const std::lock_guard<std::mutex> lock(mutex);
  const auto put = [](const GridImages& images, const Grid& of, const Numbers& part, Numbers& to) {
    to.resize(static_cast<std::size_t>(images.samples * images.height * images.width * images.channels));
    ForEachElement(images, of, [&](std::int64_t i, std::int64_t global) {
      const double value = part[static_cast<std::size_t>(i)];
      if (global >= 0) {
        to[static_cast<std::size_t>(global)] = value;
      } else {
        EXPECT_EQ(value, 0);  // padding stays zero
      }
    });
  };
  put(out, *grid, y, all.out);
  put(in, *grid, dx, all.din);
  for (const GridDenseLayer* layer : seen) {
    for (const GridParameter& p : layer->grid_parameters()) {
      Numbers& sums = all.gradients[p.name];
      sums.resize(static_cast<std::size_t>(p.tensor_shape.elements()));
      for (const ElementRun& run : elements(p)) {
        for (std::int64_t i = 0; i < run.count && run.tensor >= 0; ++i) {
          sums[static_cast<std::size_t>(run.tensor + i)] += memory.gradients().at(p.name)[static_cast<std::size_t>(run.local + i)];
        }
      }
    }
  }
  return OkStatus();
}

void ExpectNear(const Numbers& actual, const Numbers& truth, const std::string& what) {
  ASSERT_EQ(actual.size(), truth.size()) << what;
  double largest = 0;
  for (const double value : truth) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < truth.size(); ++i) ASSERT_NEAR(actual[i], truth[i], 1e-12 * largest) << what << "[" << i << "]";
}

TEST(GridDense, LayersWithDropoutEqualPlainLoops) {
  const Step truth = Serial();
  int i = 0;
  for (const auto& [x, y, z] : {std::array{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 2, 1}, {3, 2, 1}, {2, 3, 2}, {4, 1, 3}}) {
    for (const Axis along : {Axis::kX, Axis::kY}) {
      SCOPED_TRACE(::testing::Message() << "grid " << x << " x " << y << " x " << z << ", channels along " << Name(along));
      Step step;
      std::mutex mutex;
      const Status ran = RunThreadRanks(x * y * z, [&, x = x, y = y, z = z](Communicator& world) -> Status {
        LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = x, .y = y, .z = z}, world.size()));
        return RunRank(world, mesh, along, i % 2 == 0, step, mutex);
      });
      ASSERT_TRUE(ran.ok()) << ran;
      ExpectNear(step.out, truth.out, "out");
      ExpectNear(step.din, truth.din, "din");
      for (const auto& [name, gradient] : truth.gradients) ExpectNear(step.gradients[name], gradient, "gradient of " + name);
      ++i;
    }
  }
}

TEST(GridDense, SamplesThatDoNotDivideAreRefused) {
  const Status ran = RunThreadRanks(2, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.y = 2}, 2));
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Grid> grid, Grid::Create(world, mesh));
    GridDense dense;
    LayerPlan plan(DType::kF32);
    GridScratch scratch;
    const auto declare = [&](const GridParameter& parameter) { return plan.Parameter(parameter.LayerSpec(*grid)); };
    const Status status =
        dense.Plan(*grid, {.samples = 3, .height = 1, .width = 1, .channels = 4}, {.name = "fc", .units = 2}, declare, plan, &scratch)
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("fc, whose R, K, N are z, x, y: grid with R, K, N = 1, 1, 2: N = 2 does not divide the 3 samples"),
              absl::string_view::npos)
        << status;
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

}  // namespace
}  // namespace lycia
