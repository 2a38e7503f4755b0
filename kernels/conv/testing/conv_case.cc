#include "kernels/conv/testing/conv_case.h"

#include <cmath>

#include "kernels/conv/testing/conv_shapes.h"
#include "kernels/testing/compare.h"

namespace lycia::testing {
namespace {

struct Values {
  std::vector<double> in, weight, dout, din, dweight, dbias, scale, bias, residual;
};
Shape In(const ConvShape& s) { return {s.N, s.H(), s.W(), s.C}; }
Shape Out(const ConvShape& s) { return {s.N, s.P(), s.Q(), s.K}; }
Shape Weight(const ConvShape& s) { return {s.K, s.R(), s.S(), s.group_C()}; }

Values ValuesOf(const ConvCase& c) {
  const auto values = [](std::int64_t count, const char* name) { return RoundTo(DType::kBF16, RandomValues(count, name)); };
  const std::int64_t in = In(c.shape).elements(), out = Out(c.shape).elements(), weight = Weight(c.shape).elements();
  Values v = {.in = values(in, "in"),
              .weight = values(weight, "weight"),
              .dout = values(out, "dout"),
              .din = values(in, "din"),
              .dweight = values(weight, "dweight"),
              .dbias = values(c.shape.K, "dbias"),
              .scale = values(c.shape.K, "scale"),
              .bias = values(c.shape.K, "bias"),
              .residual = values(out, "residual")};
  if (c.nan_in >= 0) v.in[static_cast<std::size_t>(c.nan_in)] = std::nan("");
  if (c.nan_dout >= 0) v.dout[static_cast<std::size_t>(c.nan_dout)] = std::nan("");
  return v;
}

}  // namespace

ConvResult Run(Stream& stream, const ConvCase& c) {
  const Values v = ValuesOf(c);
  const ConvShape& s = c.shape;
  const DType sums = ArithmeticDType(c.dtype);
  const TestTensor in(c.dtype, In(s), v.in), weight(c.dtype, Weight(s), v.weight), dout(c.dtype, Out(s), v.dout);
  const TestTensor scale(c.out_dtype, {s.K}, v.scale), bias(sums, {s.K}, v.bias), residual(c.out_dtype, Out(s), v.residual);
  TestTensor out(c.out_dtype, Out(s)), dweight(sums, Weight(s), v.dweight), dbias(sums, {s.K}, v.dbias);
  TestTensor din = c.accumulate ? TestTensor(c.dtype, In(s), v.din) : TestTensor(c.dtype, In(s));
  const auto pack = [&](ConvUse use, const TestTensor& memory) {
    const PackedConvWeight to = {memory.tensor().data, c.dtype, use, s};
    PackConvWeight(stream, {.weight = weight, .to = to});
    return to;
  };
  const TestTensor forward(DType::kU8, {PackedConvBytes(c.dtype, ConvUse::kForward, s)});
  const TestTensor backward(DType::kU8, {PackedConvBytes(c.dtype, ConvUse::kBackwardInput, s)});
  ConvForwardArgs f = {.shape = s, .in = in, .out = out};
  ConvBackwardInputArgs b = {.shape = s, .dout = dout, .din = din, .accumulate = c.accumulate};
  if (c.packed) {
    f.packed = pack(ConvUse::kForward, forward);
    b.packed = pack(ConvUse::kBackwardInput, backward);
  } else {
    f.weight = b.weight = weight;
  }
  if (c.epilogue) {
    f.scale = scale;
    f.bias = bias;
    f.residual = residual;
    f.relu = true;
  }
  ConvForward(stream, f);
  ConvBackwardInput(stream, b);
  ConvBackwardWeight(stream, {.shape = s, .in = in, .dout = dout, .dweight = dweight, .dbias = dbias});
  return {out.values(), din.values(), dweight.values(), dbias.values()};
}

ConvResult Truth(const ConvCase& c) {
  Values v = ValuesOf(c);
  const ConvShape& s = c.shape;
  ConvResult r = {std::vector<double>(v.dout.size()), v.din, v.dweight, v.dbias};
  if (!c.accumulate) r.din.assign(r.din.size(), 0);
  reference::ConvForward(s, v.in.data(), v.weight.data(), r.out.data());
  if (c.epilogue) {
    for (std::size_t i = 0; i < r.out.size(); ++i) {
      const std::size_t k = i % v.scale.size();
      r.out[i] = reference::ConvEpilogue(r.out[i], &v.scale[k], &v.bias[k], &v.residual[i], true);
    }
  }
  reference::ConvBackwardInput(s, v.dout.data(), v.weight.data(), r.din.data());
  reference::ConvBackwardWeight(s, v.in.data(), v.dout.data(), r.dweight.data());
  for (std::size_t i = 0; i < v.dout.size(); ++i) r.dbias[i % r.dbias.size()] += v.dout[i];
  return r;
}

void ExpectNear(const ConvCase& c, const ConvResult& result, const ConvResult& truth) {
  const Tolerance f32 = {.of_largest = 2e-6}, f64 = {.of_largest = 1e-14};
  const Tolerance sums = c.dtype == DType::kF64 ? f64 : f32;
  EXPECT_TRUE(AllNear(result.out, truth.out, StoredTolerance(c.out_dtype, f32, f64), Out(c.shape))) << "out";
  EXPECT_TRUE(AllNear(result.din, truth.din, StoredTolerance(c.dtype, f32, f64), In(c.shape))) << "din";
  EXPECT_TRUE(AllNear(result.dweight, truth.dweight, sums, Weight(c.shape))) << "dweight";
  EXPECT_TRUE(AllNear(result.dbias, truth.dbias, sums)) << "dbias";
}

std::vector<ConvCase> ConvCases() {
  std::vector<ConvCase> cases;
  for (const ConvShape& shape : ConvShapes()) cases.push_back({.shape = shape});
  return cases;
}

}  // namespace lycia::testing
