#include "kernels/testing/test_tensor.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "gtest/gtest.h"
#include "runtime/core/philox.h"

namespace lycia::testing {
namespace {

constexpr std::int64_t kBorder = 256;  // bytes: wider than any vector access
constexpr char kPoison = 0x5A;

}  // namespace

TestTensor::TestTensor(DType dtype, const Shape& shape) {
  const std::int64_t bytes = TensorSpec{dtype, shape}.bytes();
  memory_ = std::make_unique<char[]>(static_cast<std::size_t>(bytes + 2 * kBorder + 64));
  begin_ = memory_.get() + (64 - reinterpret_cast<std::uintptr_t>(memory_.get()) % 64) % 64;
  tensor_ = {begin_ + kBorder, dtype, shape};
  std::memset(begin_, kPoison, static_cast<std::size_t>(kBorder));
  std::memset(begin_ + kBorder + bytes, kPoison, static_cast<std::size_t>(kBorder));
  if (dtype == DType::kF32) std::fill_n(as<float>(), tensor_.elements(), std::numeric_limits<float>::quiet_NaN());
  if (dtype == DType::kF64) std::fill_n(as<double>(), tensor_.elements(), std::numeric_limits<double>::quiet_NaN());
  if (dtype == DType::kBF16) std::fill_n(as<BFloat16>(), tensor_.elements(), BFloat16(std::numeric_limits<float>::quiet_NaN()));
}

TestTensor::TestTensor(DType dtype, const Shape& shape, const std::vector<double>& values) : TestTensor(dtype, shape) {
  LYCIA_CHECK_EQ(static_cast<std::int64_t>(values.size()), tensor_.elements());
  if (dtype == DType::kF32) std::transform(values.begin(), values.end(), as<float>(), [](double x) { return static_cast<float>(x); });
  if (dtype == DType::kF64) std::copy(values.begin(), values.end(), as<double>());
  if (dtype == DType::kBF16) {
    std::transform(values.begin(), values.end(), as<BFloat16>(), [](double x) { return BFloat16(static_cast<float>(x)); });
  }
  if (dtype == DType::kI32)
    std::transform(values.begin(), values.end(), as<std::int32_t>(), [](double x) { return static_cast<std::int32_t>(x); });
}

TestTensor::~TestTensor() {
  if (memory_ == nullptr) return;
  const char* after = begin_ + kBorder + tensor_.bytes();
  for (std::int64_t i = 0; i < kBorder; ++i) {
    EXPECT_EQ(begin_[i], kPoison) << "a kernel wrote " << kBorder - i << " bytes before " << tensor_.spec().ToString();
    EXPECT_EQ(after[i], kPoison) << "a kernel wrote " << i << " bytes after " << tensor_.spec().ToString();
    if (begin_[i] != kPoison || after[i] != kPoison) break;
  }
}

std::vector<double> TestTensor::values() const {
  if (tensor_.dtype == DType::kBF16) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < tensor_.elements(); ++i) values.push_back(static_cast<float>(as<BFloat16>()[i]));
    return values;
  }
  if (tensor_.dtype == DType::kF32) return {as<float>(), as<float>() + tensor_.elements()};
  if (tensor_.dtype == DType::kI32) return {as<std::int32_t>(), as<std::int32_t>() + tensor_.elements()};
  return {as<double>(), as<double>() + tensor_.elements()};
}

std::vector<double> RandomValues(std::int64_t count, std::string_view name, double std) {
  const RandomStream random(1234, name, 0);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = std * random.Normal(static_cast<std::uint64_t>(i));
  return values;
}

std::vector<double> RoundTo(DType dtype, std::vector<double> values) {
  if (dtype == DType::kF32) {
    for (double& v : values) v = static_cast<double>(static_cast<float>(v));
  }
  if (dtype == DType::kBF16) {
    for (double& v : values) v = static_cast<float>(BFloat16(static_cast<float>(v)));
  }
  if (dtype == DType::kF16) {
    for (double& v : values) v = static_cast<float>(Float16(static_cast<float>(v)));
  }
  return values;
}

CpuStream::CpuStream(const CpuOptions& options) : device_(NewCpuDevice(options)) {
  auto stream = device_->NewStream();
  LYCIA_CHECK_OK(stream.status());
  stream_ = std::move(stream).value();
}

}  // namespace lycia::testing
