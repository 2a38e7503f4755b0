// GELU, SwiGLU and ReLU against their specifications in f64.
#include "kernels/activation/gelu.h"
#include "kernels/activation/gelu_ref.h"
#include "kernels/activation/relu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/activation/swiglu_ref.h"
#include "kernels/testing/sizes.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using testing::kLengths;
using testing::kRowSizes;
using ActivationTest = KernelFixture;

// Twice what f32's own evaluation makes; 1e-7 where the value passes through zero.
constexpr testing::Tolerance kF32{.absolute = 2e-7, .of_largest = 0, .relative = 2e-6};

TEST_P(ActivationTest, Gelu) {
  for (const DType dtype : Stored()) {
    for (const std::int64_t n : kLengths) {
      for (const int skip : {0, 1}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << n << " from element " << skip);
        Values x = Random(n, "x", dtype, 3);
        // Far out, where powers overflow.
        const double far = dtype == DType::kF16 ? 6e4 : 1e18;
        if (n > 64) x[5] = far, x[6] = -far, x[7] = 100, x[8] = -100, x[9] = 0;
        const Values dy = Random(n, "dy", dtype);
        Values y(x.size()), dx(x.size());
        reference::GeluForward(n, x.data(), y.data());
        reference::GeluBackward(n, testing::RoundTo(dtype, x).data(), dy.data(), dx.data());
        const Tensor in = Put(x, dtype, {n}, skip), out = Poisoned(dtype, {n}, skip);
        x = Get(in);
        reference::GeluForward(n, x.data(), y.data());
        GeluForward(*stream_, {.in = in, .out = out});
        ExpectNear("out", out, y, kF32);
        const Tensor dout = Put(dy, dtype, {n}, skip), din = Poisoned(dtype, {n}, skip);
        GeluBackward(*stream_, {.in = in, .dout = dout, .din = din});
        ExpectNear("din", din, dx, {.absolute = 2e-7, .of_largest = 1e-6, .relative = 4e-6});
        GeluForward(*stream_, {.in = in, .out = in});
        EXPECT_EQ(Bytes(in), Bytes(out));
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(ActivationTest, SwiGlu) {
  for (const DType dtype : Stored()) {
    for (const auto [R, F] : kRowSizes) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x " << F);
      const Values x = Random(R * 2 * F, "x", dtype, 3), dy = Random(R * F, "dy", dtype);
      Values y(dy.size()), dx(x.size());
      reference::SwiGluForward(R, F, x.data(), y.data());
      reference::SwiGluBackward(R, F, x.data(), dy.data(), dx.data());
      const Tensor in = Put(x, dtype, {R, 2 * F}), out = Poisoned(dtype, {R, F});
      SwiGluForward(*stream_, {.in = in, .out = out});
      ExpectNear("out", out, y, kF32);
      SwiGluBackward(*stream_, {.in = in, .dout = Put(dy, dtype, {R, F}), .din = in});
      ExpectNear("din in place", in, dx, {.absolute = 2e-7, .of_largest = 1e-6, .relative = 4e-6});
      Release();
      if (HasFailure()) return;
    }
  }
}

TEST_P(ActivationTest, Relu) {
  for (const DType dtype : Stored()) {
    for (const std::int64_t n : kLengths) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << n);
      const Values x = Random(n, "x", dtype), r = Random(n, "r", dtype), dy = Random(n, "dy", dtype), before = Random(n, "before", dtype);
      Values y(x.size()), with(x.size()), dx(x.size()), sum(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        y[i] = std::max(x[i], 0.0), with[i] = std::max(x[i] + r[i], 0.0);
        dx[i] = y[i] > 0 ? dy[i] : 0, sum[i] = before[i] + dx[i];
      }
      const Tensor in = Put(x, dtype, {n}), out = Poisoned(dtype, {n}), both = Put(r, dtype, {n});
      ReluForward(*stream_, {.in = in, .out = out});
      ExpectNear("out", out, y, {});
      ReluForward(*stream_, {.in = in, .residual = both, .out = both});
      ExpectNear("out with residual", both, with, {.of_largest = 1e-7, .relative = 1e-7});
      const Tensor dout = Put(dy, dtype, {n}), din = Put(before, dtype, {n});
      ReluBackward(*stream_, {.dout = dout, .out = out, .din = din, .accumulate = true});
      ExpectNear("din +=", din, sum, {.of_largest = 1e-7});
      ReluBackward(*stream_, {.dout = dout, .out = out, .din = dout});
      ExpectNear("din in place", dout, dx, {});
      Release();
      if (HasFailure()) return;
    }
  }
  const Tensor nan = Put({NAN, -1, INFINITY, -INFINITY}, DType::kBF16, {4});
  ReluForward(*stream_, {.in = nan, .out = nan});
  const Values y = Get(nan);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(Values(y.begin() + 1, y.end()), (Values{0, INFINITY, 0}));
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ActivationTest);

}  // namespace
}  // namespace lycia
