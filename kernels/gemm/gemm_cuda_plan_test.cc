#include "kernels/gemm/gemm_cuda_plan.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

using ::testing::HasSubstr;

alignas(128) char memory[8][4096];
ConstMatrix At(int i, DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t ld) { return {memory[i], dtype, rows, cols, ld}; }
Matrix To(int i, DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t ld) { return {memory[i], dtype, rows, cols, ld}; }

// y [5, 7] = x [5, 3] w [3, 7]: columns first yᵀ [7, 5] = wᵀ [7, 3] xᵀ [3, 5], both as they are stored.
TEST(GemmPlan, TurnsRowsIntoColumns) {
  const GemmArgs args{.a = At(0, DType::kF32, 5, 3, 4), .b = At(1, DType::kF32, 3, 7, 8), .c = To(2, DType::kF32, 5, 7, 9)};
  const GemmPlan plan = PlanGemm(args, true);
  const BlasProduct& p = plan.product;
  EXPECT_FALSE(plan.pass);
  EXPECT_EQ(p.rows, 7);
  EXPECT_EQ(p.cols, 5);
  EXPECT_EQ(p.depth, 3);
  EXPECT_FALSE(p.transpose_a || p.transpose_b || p.add);
  EXPECT_EQ(p.ld_a, 8);
  EXPECT_EQ(p.ld_b, 4);
  EXPECT_EQ(p.ld_d, 9);
  EXPECT_EQ(plan.operands.a, memory[1]);
  EXPECT_EQ(plan.operands.b, memory[0]);
  EXPECT_EQ(plan.operands.d, memory[2]);
  EXPECT_EQ(p.align_a, 128);
}

// dx = dy wᵀ and dw += xᵀ dy.
TEST(GemmPlan, TransposesChangePlacesWithTheirOperands) {
  GemmArgs args{
      .a = At(0, DType::kBF16, 5, 7, 7), .b = At(1, DType::kBF16, 3, 7, 7), .transpose_b = true, .c = To(2, DType::kBF16, 5, 3, 3)};
  EXPECT_TRUE(PlanGemm(args, true).product.transpose_a);
  EXPECT_FALSE(PlanGemm(args, true).product.transpose_b);
  args = {.a = At(0, DType::kBF16, 5, 3, 3),
          .transpose_a = true,
          .b = At(1, DType::kBF16, 5, 7, 7),
          .c = To(2, DType::kF32, 3, 7, 7),
          .accumulate = true};
  const GemmPlan plan = PlanGemm(args, true);
  EXPECT_FALSE(plan.pass);
  EXPECT_FALSE(plan.product.transpose_a);
  EXPECT_TRUE(plan.product.transpose_b);
  EXPECT_TRUE(plan.product.add && plan.product.in_place);
  EXPECT_EQ(plan.operands.add, memory[2]);
  EXPECT_EQ(plan.product.in, DType::kBF16);
  EXPECT_EQ(plan.product.out, DType::kF32);
}

TEST(GemmPlan, FusesWhatMeansTheSame) {
  GemmArgs args{.a = At(0, DType::kBF16, 5, 3, 3), .b = At(1, DType::kBF16, 3, 8, 8), .c = To(2, DType::kBF16, 5, 8, 8)};
  const auto epilogue = [&] {
    const GemmPlan plan = PlanGemm(args, true);
    EXPECT_FALSE(plan.pass) << WhyNotFused(args);
    return plan.product.epilogue;
  };
  EXPECT_EQ(epilogue(), BlasEpilogue::kNone);
  args.residual = At(3, DType::kBF16, 5, 8, 8);
  EXPECT_EQ(epilogue(), BlasEpilogue::kNone);
  EXPECT_EQ(PlanGemm(args, true).operands.add, memory[3]);
  EXPECT_FALSE(PlanGemm(args, true).product.in_place);
  args.bias = ConstTensor(memory[4], DType::kBF16, {8});
  EXPECT_EQ(epilogue(), BlasEpilogue::kBias);
  args.residual = {};
  args.gelu = true;
  EXPECT_EQ(epilogue(), BlasEpilogue::kGeluBias);
  args.pre_activation = To(5, DType::kBF16, 5, 8, 16);
  EXPECT_EQ(epilogue(), BlasEpilogue::kGeluSavedBias);
  EXPECT_EQ(PlanGemm(args, true).product.ld_aux, 16);
  args.bias = {};
  EXPECT_EQ(epilogue(), BlasEpilogue::kGeluSaved);
  args.gelu = false, args.pre_activation = {}, args.gelu_input = At(6, DType::kBF16, 5, 8, 8);
  EXPECT_EQ(epilogue(), BlasEpilogue::kGeluSlope);
  EXPECT_EQ(PlanGemm(args, true).operands.aux, memory[6]);
}

TEST(GemmPlan, GivesAReasonWhereItCannotFuse) {
  const GemmArgs plain{.a = At(0, DType::kBF16, 5, 3, 3), .b = At(1, DType::kBF16, 3, 8, 8), .c = To(2, DType::kBF16, 5, 8, 8)};
  GemmArgs args = plain;
  const auto reason = [&] {
    const char* why = WhyNotFused(args);
    const GemmPlan plan = PlanGemm(args, true);
    EXPECT_TRUE(plan.pass && plan.in_strips);
    EXPECT_EQ(plan.product.out, DType::kF32);
    EXPECT_EQ(plan.product.epilogue, BlasEpilogue::kNone);
    EXPECT_FALSE(plan.product.add);
    return std::string(why == nullptr ? "fused" : why);
  };
  args.bias = ConstTensor(memory[4], DType::kF32, {8});
  EXPECT_THAT(reason(), HasSubstr("bias has another type"));
  args = plain, args.accumulate = true, args.residual = At(3, DType::kBF16, 5, 8, 8);
  EXPECT_THAT(reason(), HasSubstr("one addend"));
  args = plain, args.gelu = true, args.residual = At(3, DType::kBF16, 5, 8, 8);
  EXPECT_THAT(reason(), HasSubstr("residual after it"));
  args = plain, args.gelu = true, args.pre_activation = To(3, DType::kBF16, 5, 8, 9);
  EXPECT_THAT(reason(), HasSubstr("multiple of 8"));
  args.pre_activation = {memory[3] + 2, DType::kBF16, 5, 8, 16};
  EXPECT_THAT(reason(), HasSubstr("16 bytes"));
  args = plain, args.gelu_input = At(3, DType::kBF16, 5, 8, 8), args.bias = ConstTensor(memory[4], DType::kBF16, {8});
  EXPECT_THAT(reason(), HasSubstr("product alone"));
  args = plain, args.pre_activation = To(3, DType::kBF16, 5, 8, 8);
  EXPECT_THAT(reason(), HasSubstr("saved only for GELU"));
}

// A weight gradient makes the bias gradient on the way, in f32 whatever the product's operands are.
TEST(GemmPlan, AWeightGradientSumsItsOutputGradient) {
  for (const DType in : {DType::kBF16, DType::kF32}) {
    GemmArgs args{.a = At(0, in, 5, 3, 3),
                  .transpose_a = true,
                  .b = At(1, in, 5, 8, 8),
                  .c = To(2, DType::kF32, 3, 8, 8),
                  .accumulate = true,
                  .b_sums = Tensor{memory[4], DType::kF32, {8}}};
    const GemmPlan plan = PlanGemm(args, true);
    EXPECT_TRUE(plan.sums_b && !plan.pass) << WhyNotSummed(args);
    EXPECT_EQ(plan.product.epilogue, BlasEpilogue::kSumsOfA);
    EXPECT_EQ(plan.operands.bias, nullptr) << "the sums are added to b_sums, not stored there";
    EXPECT_FALSE(plan.product.transpose_a);  // ours is b
    EXPECT_TRUE(plan.product.add);
    EXPECT_FALSE(PlanGemm(args, false).sums_b);
    args.c = To(2, DType::kBF16, 3, 8, 8);
    if (in == DType::kBF16) {
      EXPECT_THAT(WhyNotSummed(args), HasSubstr("c's type"));
    }
    args.c = To(2, DType::kF32, 3, 8, 8), args.gelu = true;
    EXPECT_THAT(WhyNotSummed(args), HasSubstr("one epilogue"));
    args.gelu = false, args.b_sums = {};
    EXPECT_THAT(WhyNotSummed(args), HasSubstr("no sums"));
    EXPECT_EQ(PlanGemm(args, true).product.epilogue, BlasEpilogue::kNone);
  }
  const GemmArgs f64{.a = At(0, DType::kF64, 5, 3, 3),
                     .transpose_a = true,
                     .b = At(1, DType::kF64, 5, 8, 8),
                     .c = To(2, DType::kF64, 3, 8, 8),
                     .b_sums = Tensor{memory[4], DType::kF64, {8}}};
  EXPECT_FALSE(PlanGemm(f64, true).sums_b);
}

// f32 needs no scratch: the product goes to c, and the pass works there.
TEST(GemmPlan, AnF32ProductIsPassedOverInPlace) {
  GemmArgs args{.a = At(0, DType::kF32, 5, 3, 3), .b = At(1, DType::kF32, 3, 8, 8), .c = To(2, DType::kF32, 5, 8, 8), .accumulate = true};
  args.gelu = true, args.residual = At(3, DType::kF32, 5, 8, 8);
  const GemmPlan plan = PlanGemm(args, true);
  EXPECT_TRUE(plan.pass);
  EXPECT_FALSE(plan.in_strips);
  EXPECT_EQ(plan.operands.d, memory[2]);
  EXPECT_EQ(plan.operands.add, memory[2]);
}

TEST(GemmPlan, AlignmentsArePartOfThePlan) {
  GemmArgs args{.a = At(0, DType::kBF16, 5, 3, 3), .b = At(1, DType::kBF16, 3, 8, 8), .c = To(2, DType::kBF16, 5, 8, 8)};
  const BlasProduct aligned = PlanGemm(args, true).product;
  args.a.data = memory[0] + 2;
  EXPECT_EQ(PlanGemm(args, true).product.align_b, 2);
  EXPECT_FALSE(PlanGemm(args, true).product == aligned);
  args.a.data = memory[0] + 128;
  EXPECT_TRUE(PlanGemm(args, true).product == aligned);
}

TEST(GemmPlan, AStripIsTheProductOfItsRows) {
  GemmArgs args{.a = At(0, DType::kBF16, 6, 3, 3), .b = At(1, DType::kBF16, 3, 8, 8), .c = To(2, DType::kBF16, 6, 8, 8)};
  GemmPlan strip = PlanGemm(args, false).Strip(args, 4, 2, memory[7]);
  EXPECT_EQ(strip.operands.b, memory[0] + 4 * 3 * 2);
  EXPECT_EQ(strip.operands.d, memory[7]);
  EXPECT_EQ(strip.product.cols, 2);
  EXPECT_EQ(strip.product.ld_d, 8);
  args.a = At(0, DType::kBF16, 3, 6, 6), args.transpose_a = true;
  EXPECT_EQ(PlanGemm(args, false).Strip(args, 4, 2, memory[7]).operands.b, memory[0] + 4 * 2);
}

TEST(GemmPlan, StripsFitTheScratch) {
  EXPECT_EQ(*RowsOfStrip(100, 1000, 1 << 20), 100);
  EXPECT_EQ(*RowsOfStrip(1000, 1000, 1 << 20), 256);  // 262 fit
  EXPECT_EQ(*RowsOfStrip(1000, 10000, 1 << 20), 26);
  EXPECT_THAT(std::string(RowsOfStrip(1, 300000, 1 << 20).status().message()), HasSubstr("1200000 bytes of scratch"));
}

}  // namespace
}  // namespace lycia::cuda
