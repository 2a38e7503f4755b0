#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "runtime/core/check.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"

namespace lycia {
namespace {

TEST(DType, SizesAndNames) {
  const struct {
    DType dtype;
    std::int64_t bytes;
    std::string_view name;
  } kRows[] = {{DType::kU8, 1, "u8"},   {DType::kI32, 4, "i32"}, {DType::kI64, 8, "i64"}, {DType::kBF16, 2, "bf16"},
               {DType::kF16, 2, "f16"}, {DType::kF32, 4, "f32"}, {DType::kF64, 8, "f64"}};
  for (const auto& row : kRows) {
    EXPECT_EQ(SizeOf(row.dtype), row.bytes) << row.name;
    EXPECT_EQ(Name(row.dtype), row.name);
  }
  EXPECT_EQ(static_cast<std::size_t>(SizeOf(DTypeOf<double>::value)), sizeof(double));
  EXPECT_EQ(static_cast<std::size_t>(SizeOf(DTypeOf<std::int32_t>::value)), sizeof(std::int32_t));
}

TEST(DType, DispatchFloatPicksTheType) {
  const auto size = []<typename T>() { return sizeof(T); };
  EXPECT_EQ(DispatchFloat(DType::kF32, size), 4u);
  EXPECT_EQ(DispatchFloat(DType::kF64, size), 8u);
  EXPECT_DEATH(DispatchFloat(DType::kBF16, size), "dtype bf16 is not f32 or f64");
}

TEST(DType, DispatchStoredAlsoTakesBf16) {
  const auto sizes = []<typename T>() { return std::pair(sizeof(T), sizeof(Arithmetic<T>)); };
  EXPECT_EQ(DispatchStored(DType::kBF16, sizes), std::pair(std::size_t{2}, std::size_t{4}));
  EXPECT_EQ(DispatchStored(DType::kF32, sizes), std::pair(std::size_t{4}, std::size_t{4}));
  EXPECT_EQ(DispatchStored(DType::kF64, sizes), std::pair(std::size_t{8}, std::size_t{8}));
  EXPECT_DEATH(DispatchStored(DType::kF16, sizes), "dtype f16 is not bf16, f32 or f64");
  EXPECT_EQ(ArithmeticDType(DType::kBF16), DType::kF32);
  EXPECT_EQ(ArithmeticDType(DType::kF64), DType::kF64);
  EXPECT_EQ(DTypeOf<BFloat16>::value, DType::kBF16);
}

TEST(DType, DispatchAnyStoredAlsoTakesF16) {
  const auto type = []<typename T>() { return DTypeOf<T>::value; };
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32, DType::kF64}) EXPECT_EQ(DispatchAnyStored(dtype, type), dtype);
  EXPECT_DEATH(DispatchAnyStored(DType::kI32, type), "dtype i32 is not bf16, f32 or f64");
  EXPECT_EQ(DispatchAnyStored(DType::kF16, []<typename T>() { return sizeof(Arithmetic<T>); }), sizeof(float));
}

TEST(Shape, ElementsDimensionsAndText) {
  const Shape shape{4, 64, 128};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape.elements(), 4 * 64 * 128);
  EXPECT_EQ(shape[1], 64);
  EXPECT_EQ(shape.dim(-1), 128);
  EXPECT_EQ(shape.dim(0), 4);
  EXPECT_EQ(shape.ToString(), "[4, 64, 128]");
  EXPECT_EQ(Shape().elements(), 1);  // a scalar
  EXPECT_EQ(Shape().ToString(), "[]");
  EXPECT_EQ((Shape{7, 0, 3}).elements(), 0);
  // More than 2^31 elements: a vocabulary times a batch of tokens.
  EXPECT_EQ((Shape{1 << 17, 1 << 18}).elements(), std::int64_t{1} << 35);
}

TEST(Shape, EqualityIsByRankAndDimensions) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_NE(Shape{}, (Shape{0}));
}

TEST(Shape, SixDimensionsAreTheMost) {
  Shape shape{1, 2, 3, 4, 5, 6};
  EXPECT_EQ(shape.elements(), 720);
  EXPECT_DEATH(shape.push_back(7), "CHECK failed");
}

TEST(Tensor, BytesSpecAndText) {
  const TensorSpec spec{DType::kF64, {2, 3}};
  EXPECT_EQ(spec.bytes(), 48);
  EXPECT_EQ(spec.ToString(), "f64[2, 3]");
  double data[6] = {};
  const Tensor tensor{data, DType::kF64, {2, 3}};
  EXPECT_EQ(tensor.spec(), spec);
  EXPECT_EQ(tensor.bytes(), 48);
  EXPECT_NE(spec, (TensorSpec{DType::kF32, {2, 3}}));
}

TEST(Tensor, TypedAccessChecksTheType) {
  float data[2] = {1.5f, 2.5f};
  const Tensor tensor{data, DType::kF32, {2}};
  tensor.as<float>()[1] = 4.0f;
  EXPECT_EQ(data[1], 4.0f);
  const ConstTensor view = tensor;
  EXPECT_EQ(view.as<float>(), data);
  EXPECT_EQ(view.spec(), tensor.spec());
  EXPECT_DEATH(tensor.as<double>(), "tensor is f32");
  EXPECT_DEATH(view.as<std::int64_t>(), "tensor is f32");
}

TEST(Tensor, AsMatrixFoldsAllButTheLastDimension) {
  float data[24] = {};
  const Matrix matrix = AsMatrix(Tensor{data, DType::kF32, {2, 3, 4}});
  EXPECT_EQ(matrix.rows, 6);
  EXPECT_EQ(matrix.cols, 4);
  EXPECT_EQ(matrix.ld, 4);
  EXPECT_EQ(matrix.data, data);
  const ConstMatrix copy = matrix;
  EXPECT_EQ(copy.rows * copy.ld, 24);
  EXPECT_EQ(AsMatrix(ConstTensor(data, DType::kF32, {3, 0})).rows, 0);  // no columns: no division by zero
}

TEST(Status, AnnotateAddsContextAndKeepsTheCode) {
  const Status status = Annotate(absl::NotFoundError("no such file"), "reading a.toml");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "reading a.toml: no such file");
  EXPECT_TRUE(Annotate(OkStatus(), "reading a.toml").ok());
  EXPECT_EQ(InvalidArgument("micro_batch ", 6, " does not divide").message(), "micro_batch 6 does not divide");
  EXPECT_EQ(InvalidArgument("x").code(), absl::StatusCode::kInvalidArgument);
}

Status FailWhen(bool fail) { return fail ? absl::DataLossError("bad block") : OkStatus(); }

Status CountSteps(bool fail, int& steps) {
  ++steps;
  LYCIA_RETURN_IF_ERROR(FailWhen(fail));
  ++steps;
  return OkStatus();
}

TEST(Status, ReturnIfErrorStopsAtTheFailureOnly) {
  int steps = 0;
  EXPECT_TRUE(CountSteps(false, steps).ok());
  EXPECT_EQ(steps, 2);
  EXPECT_EQ(CountSteps(true, steps).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(steps, 3);
}

StatusOr<std::unique_ptr<int>> MakeNumber(bool fail) {
  if (fail) return absl::OutOfRangeError("no number");
  return std::make_unique<int>(42);
}

StatusOr<int> Twice(bool fail_first, bool fail_second) {
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<int> first, MakeNumber(fail_first));
  LYCIA_ASSIGN_OR_RETURN(const auto second, MakeNumber(fail_second));
  return *first + *second;
}

TEST(Status, AssignOrReturnMovesTheValueAndPassesTheFailureOn) {
  EXPECT_EQ(*Twice(false, false), 84);
  EXPECT_EQ(Twice(true, false).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Twice(false, true).status().message(), "no number");
}

TEST(Check, PrintsPlaceConditionAndMessageAndEvaluatesOnce) {
  int evaluations = 0;
  LYCIA_CHECK(++evaluations > 0) << "never built";
  EXPECT_EQ(evaluations, 1);
  // An else after a CHECK belongs to the if before it.
  if (evaluations == 1)
    LYCIA_CHECK_EQ(1, 1);
  else
    FAIL();
  EXPECT_DEATH(LYCIA_CHECK(evaluations == 2) << "of step " << 7, "core_test.cc:[0-9]+: CHECK failed: evaluations == 2 of step 7");
  EXPECT_DEATH(LYCIA_CHECK_LT(3, 2), "3 against 2");
  EXPECT_DEATH(LYCIA_CHECK_OK(absl::AbortedError("stop")), "CHECK failed: .*stop");
  LYCIA_CHECK_OK(OkStatus());
}

}  // namespace
}  // namespace lycia
