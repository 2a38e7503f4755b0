// For tests of kernels on every device present: tensors on the device between guards, filled from and read as f64.
//
// The same tests run three ways: on the CPU and on a GPU (kernels_test, the program of build.sh), and on CUDA's kernels emulated on the CPU
// (kernels/cuda/testing).
#ifndef LYCIA_TESTS_GPU_KERNEL_FIXTURE_H_
#define LYCIA_TESTS_GPU_KERNEL_FIXTURE_H_

#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/test_tensor.h"
#include "runtime/core/check.h"
#include "runtime/device/device.h"

namespace lycia {

using Values = std::vector<double>;

// What is tested where: a program instantiates its tests over these (device_kinds.cc or cuda_kind.cc).
std::vector<DeviceKind> TestedKinds();

class KernelFixture : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::kCuda) {
      StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
      if (!device.ok()) GTEST_SKIP() << device.status().message();
      device_ = *std::move(device);
    } else {
      device_ = NewCpuDevice();
    }
    NewStream();
  }
  // Work fails the stream: a test that expects it goes on with a new one.
  void NewStream() {
    StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
  }
  bool on_cuda() const { return GetParam() == DeviceKind::kCuda; }

  // The types that kernels of activations take here.
  std::vector<DType> Stored() const {
    std::vector<DType> dtypes(std::begin(testing::kStoredDTypes), std::end(testing::kStoredDTypes));
    if (on_cuda()) dtypes.push_back(DType::kF16);
    return dtypes;
  }

  // A tensor of NaN (i32: of -1 in every byte) that begins `skip` elements behind a 64-byte address and lies between guards.
  Tensor Poisoned(DType dtype, const Shape& shape, int skip = 0) {
    const std::int64_t offset = kGuard + skip * SizeOf(dtype), bytes = shape.elements() * SizeOf(dtype);
    std::string memory(static_cast<std::size_t>(offset + bytes + kGuard), static_cast<char>(kPoison));
    StatusOr<Buffer> buffer = device_->Allocate(static_cast<std::int64_t>(memory.size()), MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    stream_->Copy(buffer->data(), memory.data(), buffer->bytes());
    LYCIA_CHECK_OK(stream_->Synchronize());
    owned_.push_back({*std::move(buffer), offset, bytes});
    return {static_cast<char*>(owned_.back().buffer.data()) + offset, dtype, shape};
  }
  // Rounded to dtype: bf16, f16, f32, f64, i32, u8.
  Tensor Put(const Values& values, DType dtype, const Shape& shape, int skip = 0) {
    LYCIA_CHECK_EQ(shape.elements(), static_cast<std::int64_t>(values.size()));
    const Tensor tensor = Poisoned(dtype, shape, skip);
    std::string memory(static_cast<std::size_t>(tensor.bytes()), '\0');
    Tensor host{memory.data(), dtype, shape};
    for (std::size_t i = 0; i < values.size(); ++i) {
      switch (dtype) {
        case DType::kBF16:
          host.as<BFloat16>()[i] = BFloat16(static_cast<float>(values[i]));
          break;
        case DType::kF16:
          host.as<Float16>()[i] = Float16(static_cast<float>(values[i]));
          break;
        case DType::kF32:
          host.as<float>()[i] = static_cast<float>(values[i]);
          break;
        case DType::kF64:
          host.as<double>()[i] = values[i];
          break;
        case DType::kI32:
          host.as<std::int32_t>()[i] = static_cast<std::int32_t>(values[i]);
          break;
        case DType::kU8:
          host.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(values[i]);
          break;
        default:
          LYCIA_CHECK(false) << Name(dtype);
      }
    }
    stream_->Copy(tensor.data, memory.data(), tensor.bytes());
    LYCIA_CHECK_OK(stream_->Synchronize());
    return tensor;
  }
  std::string Bytes(const Tensor& tensor) {
    std::string memory(static_cast<std::size_t>(tensor.bytes()), '\0');
    stream_->Copy(memory.data(), tensor.data, tensor.bytes());
    const Status status = stream_->Synchronize();
    EXPECT_TRUE(status.ok()) << status.message();
    return memory;
  }
  Values Get(const Tensor& tensor) {
    std::string memory = Bytes(tensor);
    const Tensor host{memory.data(), tensor.dtype, tensor.shape};
    Values values(static_cast<std::size_t>(tensor.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      switch (tensor.dtype) {
        case DType::kBF16:
          values[i] = host.as<BFloat16>()[i];
          break;
        case DType::kF16:
          values[i] = host.as<Float16>()[i];
          break;
        case DType::kF32:
          values[i] = host.as<float>()[i];
          break;
        case DType::kF64:
          values[i] = host.as<double>()[i];
          break;
        case DType::kI32:
          values[i] = host.as<std::int32_t>()[i];
          break;
        case DType::kU8:
          values[i] = host.as<std::uint8_t>()[i];
          break;
        default:
          LYCIA_CHECK(false) << Name(tensor.dtype);
      }
    }
    return values;
  }
  // f32 is what is allowed of f32; of f64 a part of it as small as its unit in the last place; bf16 and f16 are rounded once more.
  void ExpectNear(const char* what, const Tensor& tensor, const Values& expected, const testing::Tolerance& f32) {
    constexpr double kUnits = 0x1p-29;  // f64's beside f32's
    const testing::Tolerance f64{f32.absolute * kUnits, f32.of_largest * kUnits, f32.relative * kUnits};
    EXPECT_TRUE(testing::AllNear(Get(tensor), expected, testing::StoredTolerance(tensor.dtype, f32, f64), tensor.shape))
        << what << ' ' << tensor.spec().ToString();
  }
  // Checks all guards and forgets all tensors.
  void Release() {
    for (const Owned& owned : owned_) {
      std::string memory(static_cast<std::size_t>(owned.buffer.bytes()), '\0');
      stream_->Copy(memory.data(), owned.buffer.data(), owned.buffer.bytes());
      if (!stream_->Synchronize().ok()) break;
      for (std::int64_t i = 0; i < owned.buffer.bytes(); ++i) {
        if (i >= owned.offset && i < owned.offset + owned.bytes) continue;
        if (static_cast<unsigned char>(memory[static_cast<std::size_t>(i)]) == kPoison) continue;
        ADD_FAILURE() << "written " << (i < owned.offset ? owned.offset - i : i - owned.offset - owned.bytes + 1) << " bytes "
                      << (i < owned.offset ? "before" : "behind") << " a tensor of " << owned.bytes << " bytes";
        break;
      }
    }
    owned_.clear();
  }
  void TearDown() override {
    if (stream_ != nullptr && stream_->ok()) Release();
  }

  static Values Random(std::int64_t n, const std::string& name, DType dtype, double std = 1) {
    return testing::RoundTo(dtype, testing::RandomValues(n, name, std));
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;

 private:
  static constexpr std::int64_t kGuard = 128;
  static constexpr unsigned char kPoison = 0xff;  // a NaN in every floating type
  struct Owned {
    Buffer buffer;
    std::int64_t offset, bytes;
  };
  std::vector<Owned> owned_;
};

#define LYCIA_INSTANTIATE_KERNEL_TESTS(Fixture)                                  \
  INSTANTIATE_TEST_SUITE_P(Devices, Fixture, ::testing::ValuesIn(TestedKinds()), \
                           [](const auto& info) { return std::string(info.param == DeviceKind::kCpu ? "Cpu" : "Cuda"); })

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_KERNEL_FIXTURE_H_
