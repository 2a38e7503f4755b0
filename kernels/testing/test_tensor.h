// Tensors for tests: owned memory between poisoned borders, filled from and read as f64.
#ifndef LYCIA_KERNELS_TESTING_TEST_TENSOR_H_
#define LYCIA_KERNELS_TESTING_TEST_TENSOR_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia::testing {

// CPU memory, 64-byte aligned. The destructor reports a test failure if a kernel wrote outside the tensor.
class TestTensor {
 public:
  // Filled with NaN: a kernel that reads what it should write shows. i32 is filled with zeros.
  TestTensor(DType dtype, const Shape& shape);
  // Values rounded to dtype (bf16, f32, f64, i32).
  TestTensor(DType dtype, const Shape& shape, const std::vector<double>& values);
  ~TestTensor();
  TestTensor(TestTensor&&) = default;

  const Tensor& tensor() const { return tensor_; }
  operator Tensor() const { return tensor_; }       // NOLINT: so that it stands in an Args
  operator ConstTensor() const { return tensor_; }  // NOLINT
  std::vector<double> values() const;
  template <typename T>
  T* as() const {
    return tensor_.as<T>();
  }

 private:
  std::unique_ptr<char[]> memory_;
  char* begin_ = nullptr;  // of the front border
  Tensor tensor_;
};

// `count` normal numbers times std, a pure function of the name.
std::vector<double> RandomValues(std::int64_t count, std::string_view name, double std = 1);
// The same numbers rounded to dtype, so that bf16 and f32 kernels and f64 references start alike.
std::vector<double> RoundTo(DType dtype, std::vector<double> values);

// A stream of the CPU device, with its device.
class CpuStream {
 public:
  explicit CpuStream(const CpuOptions& options = {});
  Stream& operator*() const { return *stream_; }
  Stream* operator->() const { return stream_.get(); }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_TESTING_TEST_TENSOR_H_
