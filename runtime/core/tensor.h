// Shapes and views. A Tensor never owns its memory (Arena and Buffer do) and is always contiguous, row-major.
#ifndef LYCIA_RUNTIME_CORE_TENSOR_H_
#define LYCIA_RUNTIME_CORE_TENSOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/core/check.h"
#include "runtime/core/dtype.h"

namespace lycia {

// Up to six dimensions, without allocation.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) {
    LYCIA_CHECK_LE(dims.size(), static_cast<std::size_t>(kMaxRank));
    for (std::int64_t d : dims) push_back(d);
  }

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  std::int64_t dim(int i) const { return (*this)[i < 0 ? rank_ + i : i]; }
  void push_back(std::int64_t d) {
    LYCIA_CHECK_LT(rank_, kMaxRank);
    dims_[static_cast<std::size_t>(rank_++)] = d;
  }
  std::int64_t elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<std::size_t>(i)];
    return n;
  }
  bool operator==(const Shape& other) const = default;
  std::string ToString() const;  // "[4, 64, 128]"

 private:
  int rank_ = 0;
  std::array<std::int64_t, kMaxRank> dims_{};
};

struct TensorSpec {
  DType dtype = DType::kF32;
  Shape shape;

  std::int64_t elements() const { return shape.elements(); }
  std::int64_t bytes() const { return elements() * SizeOf(dtype); }
  bool operator==(const TensorSpec&) const = default;
  std::string ToString() const;  // "f32[4, 64, 128]"
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  std::int64_t elements() const { return shape.elements(); }
  std::int64_t bytes() const { return elements() * SizeOf(dtype); }
  TensorSpec spec() const { return {dtype, shape}; }
  // nullptr on a device without data (DeviceKind::kShape); the type must match.
  template <typename T>
  T* as() const {
    LYCIA_CHECK(DTypeOf<T>::value == dtype) << "tensor is " << Name(dtype) << " ";
    return static_cast<T*>(data);
  }
};

struct ConstTensor {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  ConstTensor() = default;
  ConstTensor(const void* d, DType t, Shape s) : data(d), dtype(t), shape(s) {}
  ConstTensor(const Tensor& t) : data(t.data), dtype(t.dtype), shape(t.shape) {}  // NOLINT: a view of const
  std::int64_t elements() const { return shape.elements(); }
  std::int64_t bytes() const { return elements() * SizeOf(dtype); }
  TensorSpec spec() const { return {dtype, shape}; }
  template <typename T>
  const T* as() const {
    LYCIA_CHECK(DTypeOf<T>::value == dtype) << "tensor is " << Name(dtype) << " ";
    return static_cast<const T*>(data);
  }
};

// A row-major matrix with a leading dimension: element (r, c) at data[r * ld + c].
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0, cols = 0, ld = 0;
};
struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0, cols = 0, ld = 0;

  ConstMatrix() = default;
  ConstMatrix(const void* d, DType t, std::int64_t r, std::int64_t c, std::int64_t l) : data(d), dtype(t), rows(r), cols(c), ld(l) {}
  ConstMatrix(const Matrix& m) : data(m.data), dtype(m.dtype), rows(m.rows), cols(m.cols), ld(m.ld) {}  // NOLINT
};

// All dimensions but the last become rows.
inline Matrix AsMatrix(const Tensor& t) {
  const std::int64_t cols = t.shape.dim(-1);
  return {t.data, t.dtype, cols == 0 ? 0 : t.elements() / cols, cols, cols};
}
inline ConstMatrix AsMatrix(const ConstTensor& t) {
  const std::int64_t cols = t.shape.dim(-1);
  return {t.data, t.dtype, cols == 0 ? 0 : t.elements() / cols, cols, cols};
}

}  // namespace lycia

#endif  // LYCIA_RUNTIME_CORE_TENSOR_H_
