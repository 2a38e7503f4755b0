// Convolutions on every kind of grid against dense, serial loops in f64, and their messages against the closed forms.
//
// What would a wrong implementation still pass? One convolution with as many channels as filters (exchanged axes hide), square images,
// channels that divide (padding hides), stride 1, one sample a rank. So sizes differ pairwise and two convolutions follow one another.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "tests/grid/grid_conv_for_test.h"
#include "tests/grid/traffic_for_test.h"

namespace lycia {
namespace {

using Unit = GridConvUnit::Options;

ConvCase Case(int x, int y, int z) { return {.x = x, .y = y, .z = z, .in = {.samples = 12 * z, .height = 7, .width = 5, .channels = 6}}; }

// Two convolutions with bias, 3x3 of stride 2 after 3x3.
ConvCase Plain(int x, int y, int z) {
  ConvCase c = Case(x, y, z);
  c.blocks = {{{Unit{.name = "a", .filters = 10, .filter = 3, .bias = true},
                Unit{.name = "b", .filters = 4, .filter = 3, .stride = 2, .bias = true, .relu = false}}}};
  return c;
}

// A stem and a residual block, with batch norms over groups of `samples`.
ConvCase Normed(int x, int y, int z, std::int64_t samples) {
  ConvCase c = Case(x, y, z);
  const auto unit = [&](const std::string& name, std::int64_t filters, std::int64_t filter, std::int64_t stride) {
    return Unit{.name = name, .norm = name + ".bn", .filters = filters, .filter = filter, .stride = stride, .norm_samples = samples};
  };
  c.blocks = {{{unit("a", 10, 3, 2), unit("b", 8, 1, 1)}}, {{unit("c", 9, 3, 1), unit("d", 8, 3, 1)}, /*skip=*/true}};
  return c;
}

// Bottlenecks: one with a projection of stride 2, one around which the input goes as it is. Channels that few ranks divide.
ConvCase Bottlenecks(int x, int y, int z, std::int64_t samples) {
  ConvCase c = Case(x, y, z);
  const auto unit = [&](const std::string& name, std::int64_t filters, std::int64_t filter, std::int64_t stride) {
    return Unit{.name = name, .norm = name + ".bn", .filters = filters, .filter = filter, .stride = stride, .norm_samples = samples};
  };
  Unit keeps = unit("c", 9, 1, 1), second = unit("f", 9, 1, 1), projection = unit("p", 9, 1, 2);
  keeps.keeps = second.keeps = projection.keeps = projection.adds = true;
  projection.relu = false;
  c.blocks = {{{unit("a", 4, 1, 1), unit("b", 5, 3, 2), keeps}, /*skip=*/true, projection},
              {{unit("d", 5, 1, 1), unit("e", 3, 3, 1), second}, /*skip=*/true}};
  return c;
}

// Largest difference, relative to the largest element of the truth.
double LargestError(const std::vector<double>& actual, const std::vector<double>& truth) {
  EXPECT_EQ(actual.size(), truth.size());
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < std::min(actual.size(), truth.size()); ++i) {
    largest = std::max(largest, std::abs(truth[i]));
    if (!(std::abs(actual[i] - truth[i]) <= error)) error = std::isnan(actual[i]) ? INFINITY : std::abs(actual[i] - truth[i]);
  }
  return error / largest;
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& truth, const std::string& what) {
  EXPECT_LE(LargestError(actual, truth), 1e-12) << what;
}

std::map<std::string, Counter> Expected(const Grid& grid, const ConvCase& c) {
  TrafficForms traffic(grid, SizeOf(c.dtype));
  const std::int64_t M = c.micro_batches, x_times = 1 + !c.policy.cache_inputs;
  std::map<GridGroup, std::vector<std::int64_t>> vectors;
  for (const auto& [unit, in, out, first] : c.All()) {
    const std::int64_t channels = in.part_channels(grid), filters = out.part_channels(grid);
    const bool dx = c.input_gradient || !first;
    // K is whole on every rank of a unit that keeps: nothing is gathered or reduced along it, and R is two axes.
    const GridGroup N = GroupOf(out.channels_along), K = unit.keeps ? N : GroupOf(in.channels_along),
                    R = unit.keeps ? out.sharers() : GridGroup::kZ;
    const std::int64_t samples = in.samples / c.z, of_row = samples / (unit.keeps ? grid.size(in.samples_along()) : 1);
    const std::int64_t all_channels = channels * (unit.keeps ? grid.size(in.channels_along) : 1);
    const std::int64_t X = unit.keeps ? of_row * out.height * out.width * all_channels : samples * in.height * in.width * channels;
    const std::int64_t Y = samples * out.height * out.width * filters, W = filters * unit.filter * unit.filter * all_channels;
    traffic.Gather(N, Tag::kActivation, X, M * x_times);
    if (dx || unit.keeps) traffic.Reduce(N, Tag::kActivation, X, M);
    if (!unit.keeps) {
      traffic.Reduce(K, Tag::kActivation, Y, M);
      traffic.Gather(K, Tag::kActivation, Y, M * (1 + (dx && c.split && !c.policy.cache_output_gradients)));
    }
    const bool back = dx || unit.keeps;
    traffic.Gather(R, Tag::kWeight, W, c.weights_each_step ? 1 : M * (1 + (back && !c.policy.cache_weights)));
    traffic.Reduce(R, Tag::kGradient, W, c.weights_each_step ? 1 : M);
    for (std::int64_t n = unit.norm.empty() ? unit.bias : 2; n > 0; --n) vectors[out.sharers()].push_back(filters);
  }
  for (const auto& [group, sizes] : vectors) {
    if (!sizes.empty()) traffic.Vectors(group, sizes, 1);
  }
  return traffic.Take();
}

void ExpectTruth(const ConvCase& c, bool bytes = true) {
  SCOPED_TRACE(c.ToString());
  ConvResult result;
  const Status run = RunConv(c, result, [&](const ConvRank& rank) {
    return bytes ? CompareTraffic(rank.grid(), Expected(rank.grid(), c), c.ToString()) : OkStatus();
  });
  ASSERT_TRUE(run.ok()) << run;
  const std::map<std::string, std::vector<double>> initial = InitialWeights(c);
  EXPECT_EQ(result.numbers.weights, initial);  // bit by bit
  for (const auto& [name, owners] : result.owners) {
    EXPECT_TRUE(std::ranges::all_of(owners, [](int n) { return n == 1; })) << name;
  }
  const ConvNumbers truth = SerialStep(c, initial);
  ExpectNear(result.numbers.out, truth.out, "out");
  if (c.input_gradient) ExpectNear(result.numbers.din, truth.din, "din");
  ASSERT_EQ(result.numbers.gradients.size(), truth.gradients.size());
  for (const auto& [name, gradient] : truth.gradients) ExpectNear(result.numbers.gradients.at(name), gradient, "gradient of " + name);
  ASSERT_EQ(result.numbers.states.size(), truth.states.size());
  for (const auto& [name, state] : truth.states) ExpectNear(result.numbers.states.at(name), state, name);
  ExpectNear(result.evaluated, SerialEvaluation(c, truth), "evaluation");
}

constexpr int kGrids[][3] = {{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 2, 1}, {2, 1, 2}, {1, 2, 2},
                             {2, 2, 2}, {3, 2, 1}, {2, 3, 1}, {1, 3, 2}, {4, 2, 1}, {1, 1, 8}, {4, 1, 2}};

TEST(GridConv, AllGridsEqualTheDenseConvolutions) {
  int i = 0;
  for (const auto& [x, y, z] : kGrids) {
    ConvCase c = Plain(x, y, z);
    c.policy = {.cache_inputs = i % 2 == 0, .cache_weights = i % 3 == 0};
    c.micro_batches = i % 4 == 3 ? 2 : 1;
    c.input_gradient = i % 5 != 4;
    ExpectTruth(c);
    ++i;
  }
}

// Filters that lie whole in one memory for a whole step are packed once in it, for both directions; the numbers are those without: dense
// ones in f64, the same bits in other types.
TEST(GridConv, PackedFiltersEqualTheDenseConvolutions) {
  for (const auto& [x, y, z] : {std::array{1, 2, 1}, {2, 2, 1}, {1, 2, 2}}) {
    for (const bool each_step : {false, true}) {
      for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
        ConvCase c = Normed(x, y, z, 2);
        c.dtype = dtype;
        c.micro_batches = 2;
        c.weights_each_step = each_step;
        ConvResult plain, packed;
        ASSERT_TRUE(RunConv(c, plain).ok());
        c.packed = true;
        SCOPED_TRACE(c.ToString());
        const bool whole = each_step || z == 1;
        const std::size_t packs = whole ? 2 * c.Units().size() : 0;
        const Status run = RunConv(c, packed, [&](const ConvRank& rank) {
          std::size_t declared = 0;
          for (const LayerPlan& plan : rank.stage().plans()) declared += plan.packed_convs().size();
          EXPECT_EQ(declared, packs);
          EXPECT_EQ(rank.stage().packed_bytes() > 0, whole);
          return OkStatus();
        });
        ASSERT_TRUE(run.ok()) << run;
        EXPECT_EQ(packed.numbers.out, plain.numbers.out);
        EXPECT_EQ(packed.numbers.din, plain.numbers.din);
        EXPECT_EQ(packed.numbers.gradients, plain.numbers.gradients);
        EXPECT_EQ(packed.numbers.states, plain.numbers.states);
        EXPECT_EQ(packed.evaluated, plain.evaluated);
        if (dtype == DType::kF64) ExpectTruth(c);
      }
    }
  }
}

// 1x1, 3x3 and 5x5, strides that leave pixels out, images of one pixel and one column; channels fewer than ranks.
TEST(GridConv, OddShapesEqualTheDenseConvolutions) {
  struct Odd {
    std::int64_t height, width, channels, filters, filter, stride;
  };
  for (const Odd& odd : {Odd{1, 1, 1, 1, 1, 1}, Odd{1, 9, 3, 5, 3, 1}, Odd{5, 1, 7, 2, 3, 2}, Odd{8, 6, 3, 13, 5, 3},
                         Odd{9, 9, 17, 3, 1, 2}, Odd{4, 11, 2, 33, 3, 2}}) {
    for (const auto& [x, y, z] : {std::array{2, 2, 2}, std::array{3, 2, 1}, std::array{1, 4, 1}}) {
      ConvCase c = Case(x, y, z);
      c.in.height = odd.height, c.in.width = odd.width, c.in.channels = odd.channels;
      c.blocks = {{{Unit{.name = "a", .filters = odd.filters, .filter = odd.filter, .stride = odd.stride, .bias = true, .relu = false}}}};
      ExpectTruth(c);
    }
  }
}

// Two convolutions of exchanged axes with a batch norm between, then a residual block; gradients, running statistics and an evaluation.
TEST(GridConv, BatchNormsAndResidualsEqualTheSerialOnes) {
  int i = 0;
  for (const auto& [x, y, z] : kGrids) {
    ConvCase c = Normed(x, y, z, std::max(x, y) == 3 ? 2 : i % 2 == 0 ? 3 : 1);
    c.policy.cache_inputs = i % 3 != 1;
    c.micro_batches = i % 3 == 2 ? 2 : 1;
    c.input_gradient = i % 4 != 1;
    ExpectTruth(c);
    ++i;
  }
}

// An odd number of convolutions, the last of which keeps the axes, and a projection that does.
TEST(GridConv, BottlenecksAndProjectionsEqualTheSerialOnes) {
  int i = 0;
  for (const auto& [x, y, z] : kGrids) {
    ConvCase c = Bottlenecks(x, y, z, std::max(x, y) == 3 ? 2 : i % 2 == 0 ? 3 : 1);
    c.policy = {.cache_inputs = i % 3 != 1, .cache_weights = i % 3 == 0};
    c.micro_batches = i % 3 == 2 ? 2 : 1;
    c.input_gradient = i % 4 != 1;
    ExpectTruth(c);
    ++i;
  }
}

TEST(GridConv, SchedulesAndPoliciesEqualTheSerialOnes) {
  for (int i = 0; i < 12; ++i) {
    const int variant = i % 6;
    ConvCase c = i < 6 ? Normed(2, 2, 2, 2) : Bottlenecks(2, 2, 2, 2);
    c.micro_batches = 2;
    c.split = variant < 3;
    c.policy.cache_output_gradients = variant != 1;
    c.policy.cache_inputs = variant != 2;
    c.policy.overlap = variant % 2 == 0;
    c.weights_each_step = variant == 3;
    c.input_gradient = variant != 1;
    c.recompute = variant == 4 ? Recompute::kLayers : variant == 5 ? Recompute::kStage : Recompute::kNone;
    ExpectTruth(c, /*bytes=*/c.recompute == Recompute::kNone);
  }
}

// Root mean square of the error, relative to that of the truth.
double Error(const std::vector<double>& actual, const std::vector<double>& truth) {
  EXPECT_EQ(actual.size(), truth.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(actual.size(), truth.size()); ++i) {
    error += (actual[i] - truth[i]) * (actual[i] - truth[i]);
    norm += truth[i] * truth[i];
  }
  return std::sqrt(error / norm);
}

// f32 and bf16 are no further from f64 than 2 times a run without a grid, where sums of a few ranks are rounded each (docs/numerics.md).
// With ReLUs, whose few results near zero fall on either side and then count whole, 4 times.
TEST(GridConv, LowPrecisionIsAsGoodAsWithoutAGrid) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool normed : {false, true}) {
      for (const auto& [x, y, z] : {std::array{2, 1, 1}, std::array{1, 2, 1}, std::array{2, 2, 2}, std::array{3, 2, 1}}) {
        ConvCase c = normed ? Normed(x, y, z, 2) : Plain(x, y, z);
        c.dtype = dtype;
        if (!normed) c.blocks[0].units[0].relu = false;
        SCOPED_TRACE(c.ToString());
        ConvCase alone = c;
        alone.x = alone.y = alone.z = 1;
        ConvResult result, serial;
        const Status run = RunConv(c, result, [&](const ConvRank& rank) {
          return dtype == DType::kF32 ? CompareTraffic(rank.grid(), Expected(rank.grid(), c), c.ToString()) : OkStatus();
        });
        ASSERT_TRUE(run.ok()) << run;
        ASSERT_TRUE(RunConv(alone, serial).ok());
        EXPECT_EQ(result.numbers.weights, serial.numbers.weights);
        const ConvNumbers truth = SerialStep(c, serial.numbers.weights);
        const double unit = dtype == DType::kF32 ? 0x1p-24 : 0x1p-9;
        const auto compare = [&](const std::vector<double>& a, const std::vector<double>& b, const std::vector<double>& t,
                                 const std::string& of) {
          EXPECT_LE(Error(a, t), (normed ? 4 : 2) * Error(b, t) + unit) << of << ": without a grid " << Error(b, t);
          EXPECT_LE(Error(a, t), dtype == DType::kF32 ? 1e-5 : normed ? 0.5 : 0.02) << of;
        };
        compare(result.numbers.out, serial.numbers.out, truth.out, "out");
        compare(result.numbers.din, serial.numbers.din, truth.din, "din");
        for (const auto& [name, gradient] : truth.gradients) {
          compare(result.numbers.gradients.at(name), serial.numbers.gradients.at(name), gradient, "gradient of " + name);
        }
      }
    }
  }
}

// The truth itself, on a small chain: each gradient is the slope of sum(out * dout) in f64.
TEST(GridConv, GradientsAreSlopes) {
  ConvCase c = Normed(2, 2, 1, 2);
  c.in = {.samples = 4, .height = 4, .width = 3, .channels = 3};
  ConvResult result;
  const Status run = RunConv(c, result);
  ASSERT_TRUE(run.ok()) << run;
  std::map<std::string, std::vector<double>> weights = InitialWeights(c);
  const auto loss = [&] {
    const std::vector<double> out = SerialStep(c, weights).out;
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * ConvOutputGradient(static_cast<std::int64_t>(i));
    return sum;
  };
  for (auto& [name, values] : weights) {
    const std::vector<double>& gradient = result.numbers.gradients.at(name);
    double norm = 0;
    for (const double g : gradient) norm = std::max(norm, std::abs(g));
    for (std::size_t i = 0; i < values.size(); i += 1 + values.size() / 5) {
      const double value = values[i], h = 1e-6;
      values[i] = value + h;
      const double above = loss();
      values[i] = value - h;
      const double below = loss();
      values[i] = value;
      EXPECT_NEAR((above - below) / (2 * h), gradient[i], 1e-6 * norm) << name << " element " << i;
    }
  }
}

}  // namespace
}  // namespace lycia
