// Convolutions and their gradients against the definition in f64, over the shapes on which the CPU's are tested.
#include "kernels/conv/conv.h"

#include <cmath>

#include "kernels/conv/conv_ref.h"
#include "kernels/conv/testing/conv_shapes.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

Shape In(const ConvShape& s) { return {s.N, s.H(), s.W(), s.C}; }
Shape Out(const ConvShape& s) { return {s.N, s.P(), s.Q(), s.K}; }
Shape Weight(const ConvShape& s) { return {s.K, s.R(), s.S(), s.group_C()}; }

class ConvTest : public KernelFixture {
 protected:
  // Operands are numbers of bf16. epilogue: all of it, and din is added to; wide_out: out in f32 beside bf16.
  void Check(const ConvShape& s, DType dtype, bool epilogue, bool wide_out, int skip = 0) {
    SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << s.ToString() << (epilogue ? " epilogue" : "") << " skip " << skip);
    const DType wide = ArithmeticDType(dtype), out_dtype = wide_out ? wide : dtype;
    const auto values = [](const Shape& shape, const char* name) { return Random(shape.elements(), name, DType::kBF16); };
    const Values in = values(In(s), "in"), weight = values(Weight(s), "weight"), dout = values(Out(s), "dout"),
                 residual = values(Out(s), "residual");
    const Values scale = values({s.K}, "scale"), bias = values({s.K}, "bias"), din_before = values(In(s), "din");
    Values out(dout.size()), din = din_before, dweight = values(Weight(s), "dweight"), dbias = values({s.K}, "dbias");
    const Tensor x = Put(in, dtype, In(s), skip), w = Put(weight, dtype, Weight(s), skip), dy = Put(dout, dtype, Out(s), skip);
    const Tensor y = Poisoned(out_dtype, Out(s), skip), dx = epilogue ? Put(din, dtype, In(s), skip) : Poisoned(dtype, In(s), skip);
    const Tensor dw = Put(dweight, wide, Weight(s), skip), db = Put(dbias, wide, {s.K}, skip), again = Put(dweight, wide, Weight(s), skip);
    ConvForwardArgs forward{.shape = s, .in = x, .weight = w, .out = y};
    if (epilogue) {
      forward.scale = Put(scale, dtype, {s.K});
      forward.bias = Put(bias, wide, {s.K});
      forward.residual = Put(residual, out_dtype, Out(s));
      forward.relu = true;
    }
    ConvForward(*stream_, forward);
    ConvBackwardInput(*stream_, {.shape = s, .dout = dy, .weight = w, .din = dx, .accumulate = epilogue});
    ConvBackwardWeight(*stream_, {.shape = s, .in = x, .dout = dy, .dweight = dw, .dbias = db});
    ConvBackwardWeight(*stream_, {.shape = s, .in = x, .dout = dy, .dweight = again});
    EXPECT_EQ(Bytes(dw), Bytes(again));

    reference::ConvForward(s, in.data(), weight.data(), out.data());
    if (epilogue) {
      for (std::size_t i = 0; i < out.size(); ++i) {
        const std::size_t k = i % scale.size();
        out[i] = reference::ConvEpilogue(out[i], &scale[k], &bias[k], &residual[i], true);
      }
    } else {
      din.assign(din.size(), 0);
    }
    reference::ConvBackwardInput(s, dout.data(), weight.data(), din.data());
    reference::ConvBackwardWeight(s, in.data(), dout.data(), dweight.data());
    for (std::size_t i = 0; i < dout.size(); ++i) dbias[i % dbias.size()] += dout[i];
    const testing::Tolerance f32{.of_largest = 2e-6};
    ExpectNear("out", y, out, f32);
    ExpectNear("din", dx, din, f32);
    ExpectNear("dweight", dw, dweight, f32);
    ExpectNear("dbias", db, dbias, f32);
    Release();
  }
};

TEST_P(ConvTest, EqualsTheDefinitionOverTheGrid) {
  std::size_t i = 0;
  for (const ConvShape& s : testing::ConvShapes()) {
    for (const DType dtype : Stored()) {
      // An address off by one forbids wide accesses.
      Check(s, dtype, i % 2 == 0, i % 3 == 0, i % 5 == 0 ? 1 : 0);
      ++i;
      if (HasFailure()) return;
    }
  }
}

// Partial sums of the weight gradient; strides above the filter, so that some pixels have no gradient; a stride that shares a factor with
// the dilation.
TEST_P(ConvTest, EqualsTheDefinitionOverDeepSumsAndEmptyPhases) {
  const ConvAxis plain{.in = 24, .filter = 3, .pad_before = 1, .pad_after = 1}, sparse{.in = 11, .filter = 2, .stride = 5, .pad_before = 1};
  const ConvAxis shared{.in = 13, .filter = 3, .stride = 4, .pad_before = 2, .pad_after = 3, .dilation = 2};
  for (const ConvShape& s : {ConvShape{.N = 3, .C = 4, .K = 8, .height = plain, .width = plain},
                             ConvShape{.N = 2, .C = 6, .K = 70, .height = sparse, .width = shared, .groups = 2},
                             ConvShape{.N = 1, .C = 68, .K = 132, .height = shared, .width = plain}}) {
    ASSERT_TRUE(CheckConvShape(s).ok());
    for (const DType dtype : Stored()) Check(s, dtype, true, false);
  }
}

// Large enough for Hopper's kernels: tails of positions, filters and channels, strides, dilation, groups, sums of parts.
TEST_P(ConvTest, EqualsTheDefinitionWhereTensorCoresServe) {
  const auto axis = [](std::int64_t in, std::int64_t filter, std::int64_t stride, std::int64_t before, std::int64_t after,
                       std::int64_t dilation) {
    return ConvAxis{.in = in, .filter = filter, .stride = stride, .pad_before = before, .pad_after = after, .dilation = dilation};
  };
  for (const ConvShape& s :
       {ConvShape{.N = 4, .C = 64, .K = 64, .height = axis(19, 3, 1, 1, 1, 1), .width = axis(23, 3, 1, 1, 1, 1)},
        ConvShape{.N = 2, .C = 128, .K = 72, .height = axis(17, 1, 1, 0, 0, 1), .width = axis(21, 1, 1, 0, 0, 1)},
        ConvShape{.N = 5, .C = 64, .K = 192, .height = axis(21, 3, 2, 1, 1, 1), .width = axis(20, 3, 2, 1, 0, 1)},
        ConvShape{.N = 3, .C = 128, .K = 256, .height = axis(13, 2, 1, 0, 2, 2), .width = axis(20, 3, 1, 2, 1, 2), .groups = 2},
        ConvShape{.N = 6, .C = 64, .K = 128, .height = axis(17, 1, 2, 0, 0, 1), .width = axis(19, 1, 2, 0, 0, 1)}}) {
    ASSERT_TRUE(CheckConvShape(s).ok());
    for (const bool epilogue : {false, true}) Check(s, DType::kBF16, epilogue, epilogue);
    if (HasFailure()) return;
  }
}

// What is not a number reaches what the window says, and nothing else.
TEST_P(ConvTest, NanReachesWhatSeesItOnly) {
  const ConvAxis rows{.in = 6, .filter = 3, .pad_before = 1, .pad_after = 1},
      columns{.in = 7, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1};
  const ConvShape s{.N = 1, .C = 4, .K = 8, .height = rows, .width = columns};
  for (const DType dtype : Stored()) {
    Values in = Random(In(s).elements(), "in", dtype), dout = Random(Out(s).elements(), "dout", dtype);
    in[(2 * 7 + 3) * 4 + 1] = NAN;    // pixel 2, 3, channel 1
    dout[(5 * 4 + 1) * 8 + 7] = NAN;  // pixel 5, 1, filter 7
    const Tensor x = Put(in, dtype, In(s)), dy = Put(dout, dtype, Out(s)),
                 w = Put(Random(Weight(s).elements(), "w", dtype), dtype, Weight(s));
    const Tensor y = Poisoned(dtype, Out(s)), dx = Poisoned(dtype, In(s));
    ConvForward(*stream_, {.shape = s, .in = x, .weight = w, .out = y, .relu = true});
    ConvBackwardInput(*stream_, {.shape = s, .dout = dy, .weight = w, .din = dx});
    const Values out = Get(y), din = Get(dx);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto pixel = static_cast<std::int64_t>(i) / 8, p = pixel / 4, q = pixel % 4;
      ASSERT_EQ(std::isnan(out[i]), std::abs(p - 2) <= 1 && std::abs(2 * q - 3) <= 1) << i;
    }
    for (std::size_t i = 0; i < din.size(); ++i) {
      const auto pixel = static_cast<std::int64_t>(i) / 4, h = pixel / 7, v = pixel % 7;
      ASSERT_EQ(std::isnan(din[i]), std::abs(h - 5) <= 1 && std::abs(v - 2) <= 1) << i;
    }
    Release();
  }
}

// On CUDA a packed weight takes no memory and is not read.
TEST_P(ConvTest, PackedWeights) {
  const ConvAxis axis{.in = 5, .filter = 3};
  const ConvShape s{.N = 1, .C = 4, .K = 8, .height = axis, .width = axis};
  const std::int64_t bytes = PackedConvBytes(GetParam(), DType::kF32, ConvUse::kForward, s);
  if (on_cuda()) {
    EXPECT_EQ(bytes, 0);
  } else {
    EXPECT_GE(bytes, 4 * 8 * 9 * 4);
  }
  const Tensor x = Put(Random(In(s).elements(), "in", DType::kF32), DType::kF32, In(s));
  const Tensor w = Put(Random(Weight(s).elements(), "w", DType::kF32), DType::kF32, Weight(s));
  const Tensor y = Poisoned(DType::kF32, Out(s)), z = Poisoned(DType::kF32, Out(s)), memory = Poisoned(DType::kU8, {bytes + 64});
  const PackedConvWeight packed{.data = memory.data, .dtype = DType::kF32, .use = ConvUse::kForward, .shape = s};
  PackConvWeight(*stream_, {.weight = w, .to = packed});
  ConvForward(*stream_, {.shape = s, .in = x, .weight = w, .packed = packed, .out = y});
  ConvForward(*stream_, {.shape = s, .in = x, .weight = w, .out = z});
  EXPECT_EQ(Bytes(y), Bytes(z));
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ConvTest);

}  // namespace
}  // namespace lycia
