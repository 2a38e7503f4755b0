#include <cmath>

#include "kernels/conv/conv_ref.h"
#include "kernels/norm/batch_norm_ref.h"
#include "runtime/core/philox.h"
#include "tests/grid/grid_conv_for_test.h"

namespace lycia {
namespace {

using Numbers = std::vector<double>;

constexpr double kEps = 1e-5;

ConvShape ShapeOf(const GridImages& in, const GridConvUnit::Options& unit, std::int64_t samples) {
  const auto axis = [&](std::int64_t size) {
    return ConvAxis{.in = size, .filter = unit.filter, .stride = unit.stride, .pad_before = unit.filter / 2, .pad_after = unit.filter / 2};
  };
  return {.N = samples, .C = in.channels, .K = unit.filters, .height = axis(in.height), .width = axis(in.width)};
}

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

// What one unit's forward made.
struct UnitForward {
  ConvShape shape;
  Numbers in, convolved, mean, variance, rstd, out;
  std::int64_t groups = 0, rows = 0;  // of the norm
};

UnitForward Forward(const ConvShape& shape, const GridConvUnit::Options& unit, const std::map<std::string, Numbers>& weights,
                    const Numbers& in, const Numbers* residual) {
  const std::int64_t K = shape.K, all = shape.N * shape.P() * shape.Q();
  UnitForward f{.shape = shape, .in = in, .convolved = Numbers(Size(all * K))};
  reference::ConvForward(shape, in.data(), weights.at(unit.name + ".weight").data(), f.convolved.data());
  f.out = f.convolved;
  if (unit.norm.empty()) {
    if (unit.bias) {
      for (std::int64_t i = 0; i < all * K; ++i) f.out[Size(i)] += weights.at(unit.name + ".bias")[Size(i % K)];
    }
  } else {
    f.groups = shape.N / unit.norm_samples, f.rows = unit.norm_samples * shape.P() * shape.Q();
    f.mean.resize(Size(f.groups * K)), f.variance = f.rstd = f.mean;
    for (std::int64_t g = 0; g < f.groups; ++g) {
      const std::int64_t at = g * f.rows * K;
      reference::BatchNormStatistics(f.rows, K, &f.convolved[Size(at)], kEps, &f.mean[Size(g * K)], &f.variance[Size(g * K)],
                                     &f.rstd[Size(g * K)]);
      reference::BatchNormApply(f.rows, K, &f.convolved[Size(at)], &f.mean[Size(g * K)], &f.rstd[Size(g * K)],
                                weights.at(unit.norm + ".weight").data(), weights.at(unit.norm + ".bias").data(),
                                residual == nullptr ? nullptr : &(*residual)[Size(at)], &f.out[Size(at)]);
    }
  }
  if (unit.relu) {
    for (double& value : f.out) value = value > 0 ? value : 0;
  }
  return f;
}

// Returns din; adds what goes around the unit to *dresidual.
Numbers Backward(const UnitForward& f, const GridConvUnit::Options& unit, const std::map<std::string, Numbers>& weights, Numbers d,
                 std::map<std::string, Numbers>& gradients, Numbers* dresidual) {
  const std::int64_t K = f.shape.K, C = f.shape.C;
  if (unit.relu) {
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = f.out[i] > 0 ? d[i] : 0;
  }
  if (dresidual != nullptr) *dresidual = d;
  if (!unit.norm.empty()) {
    Numbers &dgamma = gradients[unit.norm + ".weight"], &dbeta = gradients[unit.norm + ".bias"], dconv(d.size());
    dgamma.resize(Size(K)), dbeta.resize(Size(K));
    for (std::int64_t g = 0; g < f.groups; ++g) {
      const std::int64_t at = g * f.rows * K;
      Numbers sum_d(Size(K)), sum_dn(Size(K));
      reference::BatchNormBackwardSums(f.rows, K, &d[Size(at)], &f.convolved[Size(at)], &f.mean[Size(g * K)], &f.rstd[Size(g * K)],
                                       sum_d.data(), sum_dn.data());
      reference::BatchNormBackwardInput(f.rows, K, &d[Size(at)], &f.convolved[Size(at)], weights.at(unit.norm + ".weight").data(),
                                        &f.mean[Size(g * K)], &f.rstd[Size(g * K)], sum_d.data(), sum_dn.data(), &dconv[Size(at)]);
      for (std::int64_t k = 0; k < K; ++k) dgamma[Size(k)] += sum_dn[Size(k)], dbeta[Size(k)] += sum_d[Size(k)];
    }
    d = dconv;
  } else if (unit.bias) {
    Numbers& dbias = gradients[unit.name + ".bias"];
    dbias.resize(Size(K));
    for (std::size_t i = 0; i < d.size(); ++i) dbias[i % Size(K)] += d[i];
  }
  Numbers &dweight = gradients[unit.name + ".weight"], din(Size(f.shape.N * f.shape.H() * f.shape.W() * C));
  dweight.resize(weights.at(unit.name + ".weight").size());
  reference::ConvBackwardWeight(f.shape, f.in.data(), d.data(), dweight.data());
  reference::ConvBackwardInput(f.shape, d.data(), weights.at(unit.name + ".weight").data(), din.data());
  return din;
}

Numbers Inputs(const ConvCase& c, std::int64_t samples) {
  Numbers x(Size(samples * c.in.height * c.in.width * c.in.channels));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = ConvInput(static_cast<std::int64_t>(i));
  return x;
}

}  // namespace

std::map<std::string, Numbers> InitialWeights(const ConvCase& c) {
  std::map<std::string, Numbers> weights;
  for (const auto& [unit, in, out, first] : c.All()) {
    const std::int64_t taps = unit.filter * unit.filter;
    const std::string name = unit.name + ".weight";
    const RandomStream random(5, "init/" + name, 0);
    for (std::int64_t i = 0; i < unit.filters * taps * in.channels; ++i) {
      weights[name].push_back(std::sqrt(2 / static_cast<double>(unit.filters * taps)) * random.Normal(static_cast<std::uint64_t>(i)));
    }
    const auto vector = [&weights, filters = unit.filters](const std::string& of, double initial) {
      for (std::int64_t i = 0; i < filters; ++i) weights[of].push_back(initial + VectorShift(i));
    };
    if (unit.bias && unit.norm.empty()) vector(unit.name + ".bias", 0);
    if (unit.norm.empty()) continue;
    vector(unit.norm + ".weight", 1);
    vector(unit.norm + ".bias", 0);
  }
  return weights;
}

ConvNumbers SerialStep(const ConvCase& c, const std::map<std::string, Numbers>& weights) {
  const std::int64_t samples = c.in.samples * c.micro_batches;
  ConvNumbers numbers{.weights = weights};
  std::map<std::string, UnitForward> forwards;  // by name
  Numbers x = Inputs(c, samples);
  std::size_t u = 0;
  for (const ConvCase::Block& block : c.blocks) {
    Numbers around = x;
    if (block.projection) {
      const GridConvUnit::Options& unit = *block.projection;
      forwards[unit.name] = Forward(ShapeOf(c.ImagesAt(u), unit, samples), unit, weights, x, nullptr);
      around = forwards[unit.name].out;
    }
    for (std::size_t i = 0; i < block.units.size(); ++i, ++u) {
      const GridConvUnit::Options& unit = block.units[i];
      const bool adds = block.skip && i + 1 == block.units.size();
      forwards[unit.name] = Forward(ShapeOf(c.ImagesAt(u), unit, samples), unit, weights, x, adds ? &around : nullptr);
      x = forwards[unit.name].out;
    }
  }
  numbers.out = x;
  Numbers d(x.size());
  for (std::size_t i = 0; i < d.size(); ++i) d[i] = ConvOutputGradient(static_cast<std::int64_t>(i));
  for (std::size_t b = c.blocks.size(); b-- > 0;) {
    const ConvCase::Block& block = c.blocks[b];
    Numbers around;
    for (std::size_t i = block.units.size(); i-- > 0;) {
      const bool last = i + 1 == block.units.size();
      d = Backward(forwards.at(block.units[i].name), block.units[i], weights, std::move(d), numbers.gradients,
                   last && block.skip ? &around : nullptr);
    }
    if (block.projection) {
      around = Backward(forwards.at(block.projection->name), *block.projection, weights, std::move(around), numbers.gradients, nullptr);
    }
    for (std::size_t i = 0; i < around.size(); ++i) d[i] += around[i];
  }
  numbers.din = d;
  for (const auto& [unit, in, out, first] : c.All()) {
    if (unit.norm.empty()) continue;
    const UnitForward& f = forwards.at(unit.name);
    const double momentum = unit.norm_momentum, rows = static_cast<double>(f.rows);
    Numbers mean(Size(unit.filters), 0), variance(Size(unit.filters), 1);
    for (std::size_t g = 0; g < f.mean.size(); ++g) {
      double &m = mean[g % mean.size()], &v = variance[g % mean.size()];
      m = (1 - momentum) * m + momentum * f.mean[g];
      v = (1 - momentum) * v + momentum * f.variance[g] * (rows > 1 ? rows / (rows - 1) : 1);
    }
    numbers.states[unit.norm + ".running_mean"] = mean;
    numbers.states[unit.norm + ".running_var"] = variance;
  }
  return numbers;
}

Numbers SerialEvaluation(const ConvCase& c, const ConvNumbers& after) {
  const auto run = [&](const GridImages& in, const GridConvUnit::Options& unit, const Numbers& x, const Numbers* residual) {
    GridConvUnit::Options plain = unit;
    plain.norm = "", plain.bias = unit.bias && unit.norm.empty(), plain.relu = unit.relu && unit.norm.empty();
    Numbers y = Forward(ShapeOf(in, unit, c.in.samples), plain, after.weights, x, nullptr).out;
    if (unit.norm.empty()) return y;
    const std::size_t K = Size(unit.filters);
    for (std::size_t e = 0; e < y.size(); ++e) {
      const std::size_t k = e % K;
      y[e] = (y[e] - after.states.at(unit.norm + ".running_mean")[k]) / std::sqrt(after.states.at(unit.norm + ".running_var")[k] + kEps) *
                 after.weights.at(unit.norm + ".weight")[k] +
             after.weights.at(unit.norm + ".bias")[k];
      if (residual != nullptr) y[e] += (*residual)[e];
      if (unit.relu && y[e] < 0) y[e] = 0;
    }
    return y;
  };
  Numbers x = Inputs(c, c.in.samples);
  std::size_t u = 0;
  for (const ConvCase::Block& block : c.blocks) {
    const Numbers around = block.projection ? run(c.ImagesAt(u), *block.projection, x, nullptr) : x;
    for (std::size_t i = 0; i < block.units.size(); ++i, ++u) {
      x = run(c.ImagesAt(u), block.units[i], x, block.skip && i + 1 == block.units.size() ? &around : nullptr);
    }
  }
  return x;
}

}  // namespace lycia
