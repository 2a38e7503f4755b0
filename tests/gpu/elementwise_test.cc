// Sums, scaling, filling, converting, dropout and rotary embedding against their specifications in f64.
#include "kernels/elementwise/elementwise.h"

#include <cmath>

#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise_ref.h"
#include "kernels/rotary/rotary.h"
#include "kernels/rotary/rotary_ref.h"
#include "kernels/testing/sizes.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using testing::kLengths;
using testing::kRowSizes;
using ElementwiseTest = KernelFixture;

TEST_P(ElementwiseTest, SumsScalesFillsAndConverts) {
  for (const DType dtype : Stored()) {
    for (const std::int64_t n : kLengths) {
      for (const int skip : {0, 1}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << n << " from element " << skip);
        const Values x = Random(n, "x", dtype), y = Random(n, "y", dtype);
        Values sum = x, scaled = x;
        for (std::size_t i = 0; i < x.size(); ++i) sum[i] += y[i], scaled[i] *= 0.75;
        const Tensor a = Put(x, dtype, {n}, skip), b = Put(y, dtype, {n}, skip), out = Poisoned(dtype, {n}, skip);
        Add(*stream_, {.a = a, .b = b, .out = out});
        ExpectNear("a + b", out, sum, {.relative = 1e-7});
        AddInPlace(*stream_, {.x = b, .y = a});
        EXPECT_EQ(Bytes(b), Bytes(out));
        Fill(*stream_, {.out = out, .value = -2.5});
        EXPECT_EQ(Get(out), Values(x.size(), -2.5));
        for (const DType to : Stored()) {
          const Tensor other = Poisoned(to, {n}, skip);
          Convert(*stream_, {.in = a, .out = other});
          EXPECT_EQ(Get(other), testing::RoundTo(to, x)) << "to " << Name(to);
        }
        Scale(*stream_, {.values = a, .factor = 0.75});
        ExpectNear("0.75 a", a, scaled, {.relative = 1e-7});
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(ElementwiseTest, FillNormal) {
  const RandomStream random(3, "weights", 2);
  for (const DType dtype : Stored()) {
    Values expected(1001);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = 0.02 * random.Normal(i + 17);
    const Tensor out = Poisoned(dtype, {1001});
    FillNormal(*stream_, {.out = out, .random = random, .std = 0.02, .first_index = 17});
    ExpectNear("normal", out, expected, {.absolute = 1e-9, .relative = 2e-7});
  }
}

// Which elements are kept is the same on every device, exactly.
TEST_P(ElementwiseTest, Dropout) {
  const RandomStream random(9, "dropout", 5);
  for (const DType dtype : Stored()) {
    for (const auto [R, C] : kRowSizes) {
      for (const double rate : {0.0, 0.1, 0.5, 1 - 0x1p-33}) {
        for (const std::int64_t stride : {std::int64_t{0}, C + 3}) {
          for (const std::int64_t first : {std::int64_t{0}, (std::int64_t{1} << 33) + 2}) {
            SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x " << C << " rate " << rate << " stride " << stride);
            Values x = Random(R * C, "x", dtype);
            for (double& v : x) v = v == 0 ? 1 : v;
            const Values r = Random(R * C, "r", dtype);
            const DropoutMask mask{.rate = rate, .random = random, .first_index = first, .row_stride = stride};
            Values kept(x.size()), sum(x.size());
            const std::int64_t apart = stride == 0 ? C : stride;
            reference::Dropout<double>(R, C, x.data(), nullptr, random, rate, first, apart, kept.data());
            reference::Dropout<double>(R, C, x.data(), r.data(), random, rate, first, apart, sum.data());
            const Tensor in = Put(x, dtype, {R, C}), residual = Put(r, dtype, {R, C}), out = Poisoned(dtype, {R, C});
            DropoutBackward(*stream_, {.dout = in, .din = out, .mask = mask});
            const Values y = Get(out);
            for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i] != 0, kept[i] != 0) << "element " << i;
            ExpectNear("out", out, kept, {.relative = 2e-7});
            DropoutForward(*stream_, {.in = in, .residual = residual, .out = residual, .mask = mask});
            ExpectNear("with residual", residual, sum, {.of_largest = 2e-7, .relative = 2e-7});
            Release();
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, Rotary) {
  struct Size {
    std::int64_t B, T, heads, half, first_feature, rest;
  };
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto& [B, T, H, half, skip, rest] :
         {Size{1, 1, 1, 1, 0, 0}, {2, 3, 2, 5, 1, 2}, {2, 17, 3, 32, 0, 64}, {1, 9, 4, 8, 8, 8}}) {
      for (const bool given : {false, true}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << B << " x " << T << " x " << H << " heads of " << 2 * half);
        const std::int64_t W = skip + H * 2 * half + rest, P = T + 40;
        const Values x = Random(B * T * W, "x", dtype);
        Values positions(static_cast<std::size_t>(B * T)), y = x;
        for (std::int64_t i = 0; i < B * T; ++i) {
          const std::int64_t position = given ? (i * 7) % P : 11 + i % T;
          positions[static_cast<std::size_t>(i)] = static_cast<double>(position);
          for (std::int64_t h = 0; h < H; ++h)
            reference::RotateHead<double>(2 * half, 500, position, false, &y[static_cast<std::size_t>(i * W + skip + h * 2 * half)]);
        }
        const Tensor cosines = Poisoned(wide, {P, half}), sines = Poisoned(wide, {P, half}), rows = Put(x, dtype, {B, T, W});
        RotaryTable(*stream_, {.cosines = cosines, .sines = sines, .base = 500});
        RotaryArgs args{.rows = rows, .cosines = cosines, .sines = sines, .heads = H, .first_feature = skip, .first_position = 11};
        if (given) args.positions = Put(positions, DType::kI32, {B, T});
        Rotary(*stream_, args);
        ExpectNear("turned", rows, y, {.absolute = 1e-7, .of_largest = 3e-7});
        args.inverse = true;
        Rotary(*stream_, args);
        ExpectNear("turned back", rows, x,
                   {.absolute = 1e-7,
                    .of_largest = dtype == DType::kBF16  ? 0x1p-7
                                  : dtype == DType::kF16 ? 0x1p-10
                                                         : 6e-7});
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(ElementwiseTest, APositionOutsideTheTableIsReported) {
  const Tensor table = Put(Values(8, 1), DType::kF32, {4, 2}), rows = Put(Values(8, 1), DType::kF32, {1, 2, 4});
  Rotary(*stream_, {.rows = rows, .cosines = table, .sines = table, .heads = 1, .positions = Put({0, 4}, DType::kI32, {1, 2})});
  const Status status = stream_->Synchronize();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("position 4 at place 1"), std::string::npos) << status;
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ElementwiseTest);

}  // namespace
}  // namespace lycia
