#include "kernels/gemm/testing/gemm_case.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "kernels/gemm/gemm_ref.h"
#include "kernels/gemm/testing/amx_emulator.h"
#include "kernels/testing/test_tensor.h"

namespace lycia::testing {
namespace {

// A matrix in memory with longer rows than it needs; what stands behind a row is never to be read as a value nor written.
struct Operand {
  Operand(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t padding, const std::vector<double>& values)
      : rows(rows), cols(cols), ld(cols + padding), tensor(dtype, {rows, cols + padding}, Padded(rows, cols, padding, values)) {}

  static constexpr double kBehind = -12345;  // not exact in bf16, but the same after rounding
  static std::vector<double> Padded(std::int64_t rows, std::int64_t cols, std::int64_t padding, const std::vector<double>& values) {
    std::vector<double> padded;
    for (std::int64_t i = 0; i < rows; ++i) {
      padded.insert(padded.end(), values.begin() + i * cols, values.begin() + (i + 1) * cols);
      padded.insert(padded.end(), static_cast<std::size_t>(padding), kBehind);
    }
    return padded;
  }
  Matrix view() const { return {tensor.tensor().data, tensor.tensor().dtype, rows, cols, ld}; }
  std::vector<double> values() const {
    const std::vector<double> all = tensor.values();
    const double behind = RoundTo(tensor.tensor().dtype, {kBehind})[0];
    std::vector<double> inside;
    for (std::int64_t i = 0; i < rows; ++i) {
      inside.insert(inside.end(), all.begin() + i * ld, all.begin() + i * ld + cols);
      for (std::int64_t j = cols; j < ld; ++j) EXPECT_EQ(all[static_cast<std::size_t>(i * ld + j)], behind) << "written behind row " << i;
    }
    return inside;
  }

  std::int64_t rows, cols, ld;
  TestTensor tensor;
};

struct Values {
  std::vector<double> a, b, c, bias, residual, slope;
};
Values ValuesOf(const GemmCase& g) {
  return {.a = RoundTo(g.dtype, RandomValues(g.m * g.k, "a")),
          .b = RoundTo(g.dtype, RandomValues(g.k * g.n, "b")),
          .c = RoundTo(g.c_dtype, RandomValues(g.m * g.n, "c")),
          .bias = RoundTo(g.c_dtype, RandomValues(g.n, "bias")),
          .residual = RoundTo(g.c_dtype, RandomValues(g.m * g.n, "residual")),
          .slope = RoundTo(g.c_dtype, RandomValues(g.m * g.n, "slope"))};
}

}  // namespace

std::string GemmCase::ToString() const {
  std::string text = StrCat(Name(dtype), " -> ", Name(c_dtype), " m ", m, " n ", n, " k ", k, " padding ", padding);
  const struct {
    bool on;
    const char* name;
  } kFlags[] = {{transpose_a, "transpose_a"},
                {transpose_b, "transpose_b"},
                {packed, "packed"},
                {accumulate, "accumulate"},
                {bias, "bias"},
                {residual, "residual"},
                {gelu, "gelu"},
                {save, "save"},
                {slope, "slope"}};
  for (const auto& flag : kFlags) text += flag.on ? StrCat(" ", flag.name) : "";
  return text;
}

GemmResult Run(Stream& stream, const GemmCase& g) {
  const Values values = ValuesOf(g);
  const Operand a(g.dtype, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, g.padding, values.a);
  const Operand b(g.dtype, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, g.padding, values.b);
  const Operand residual(g.c_dtype, g.m, g.n, g.padding, values.residual), slope(g.c_dtype, g.m, g.n, g.padding, values.slope);
  const std::vector<double> nan(values.c.size(), std::nan(""));
  Operand c(g.c_dtype, g.m, g.n, g.padding, g.accumulate ? values.c : nan), pre(g.c_dtype, g.m, g.n, g.padding, nan);
  const TestTensor bias(g.c_dtype, {g.n}, values.bias);
  GemmArgs args = {.a = a.view(), .transpose_a = g.transpose_a, .c = c.view(), .accumulate = g.accumulate};
  const TestTensor packed(DType::kU8, {PackedMatrixBytes(g.dtype, g.k, g.n)});
  if (g.packed) {
    args.packed_b = {packed.tensor().data, g.dtype, g.k, g.n};
    PackMatrix(stream, {.b = b.view(), .transpose_b = g.transpose_b, .to = args.packed_b});
  } else {
    args.b = b.view();
    args.transpose_b = g.transpose_b;
  }
  if (g.bias) args.bias = bias;
  if (g.residual) args.residual = residual.view();
  args.gelu = g.gelu;
  if (g.save) args.pre_activation = pre.view();
  if (g.slope) args.gelu_input = slope.view();
  Gemm(stream, args);
  return {c.values(), g.save ? pre.values() : std::vector<double>()};
}

void ExpectRight(const GemmCase& g, const GemmResult& result) {
  const Values v = ValuesOf(g);
  // The error of a sum grows with the sum of its terms' magnitudes, never with its own.
  std::vector<double> truth = v.c, magnitude = v.c, a = v.a, b = v.b, bias = v.bias;
  reference::Gemm(g.m, g.n, g.k, a.data(), g.transpose_a, b.data(), g.transpose_b, truth.data(), g.accumulate,
                  g.bias ? bias.data() : nullptr);
  for (std::vector<double>* values : {&a, &b, &magnitude, &bias}) {
    for (double& x : *values) x = std::abs(x);
  }
  reference::Gemm(g.m, g.n, g.k, a.data(), g.transpose_a, b.data(), g.transpose_b, magnitude.data(), g.accumulate,
                  g.bias ? bias.data() : nullptr);
  const double eps = g.dtype == DType::kF64 ? 0x1p-53 : 0x1p-24, rounding = g.c_dtype == DType::kBF16 ? 0x1p-8
                                                                            : g.dtype == DType::kF64  ? 0x1p-53
                                                                                                      : 0x1p-24;
  const double growth = eps * (8 + std::sqrt(static_cast<double>(g.k)));
  int reported = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double* slope = g.slope ? &v.slope[i] : nullptr;
    const double* residual = g.residual ? &v.residual[i] : nullptr;
    const double error_of_s = growth * magnitude[i];
    if (g.save && !(std::abs(result.pre[i] - truth[i]) <= error_of_s + rounding * std::abs(truth[i])) && ++reported <= 3) {
      ADD_FAILURE() << "pre[" << i << "] = " << result.pre[i] << ", not " << truth[i];
    }
    const double expected = reference::GemmEpilogue(truth[i], g.gelu, slope, residual);
    // GELU and its slope are at most 1.13 steep and large; in bf16, s is rounded before a GELU. Their own formulas err, too.
    const double s = std::abs(truth[i]), formula = g.dtype == DType::kF64 ? 5e-14 : 2e-6;
    const double extra = g.gelu ? (rounding + formula) * s : g.slope ? formula * s : 0;
    const double allowed =
        1.2 * (error_of_s + extra) + rounding * std::abs(expected) + (residual == nullptr ? 0 : eps * 2 * std::abs(*residual));
    if (!(std::abs(result.c[i] - expected) <= allowed) && ++reported <= 3) {
      ADD_FAILURE() << "c[" << i / static_cast<std::size_t>(g.n) << ", " << i % static_cast<std::size_t>(g.n) << "] = " << result.c[i]
                    << ", not " << expected << " within " << allowed;
    }
  }
}

void ForEveryKernel(DType dtype, absl::FunctionRef<void(const cpu::MicroKernel&)> f) {
  cpu::GemmFeatures features = cpu::DetectGemmFeatures();
  if (!features.amx && features.avx512) {
    EmulateAmx();
    features.amx = true;
  }
  for (const cpu::MicroKernel* kernel : cpu::UsableKernels(dtype, features)) {
    SCOPED_TRACE(::testing::Message() << "kernel " << kernel->name);
    cpu::internal::SelectKernel(dtype, kernel);
    f(*kernel);
  }
  cpu::internal::SelectKernel(dtype, nullptr);
}

}  // namespace lycia::testing
