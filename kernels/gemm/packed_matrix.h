// A weight in the order in which the multiply reads it. Packing costs about as much as multiplying by a dozen rows; packed once a step, a
// weight serves all micro-batches.
#ifndef LYCIA_KERNELS_GEMM_PACKED_MATRIX_H_
#define LYCIA_KERNELS_GEMM_PACKED_MATRIX_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// op(b) [k, n]. On CUDA there is no such order: PackMatrix does nothing, Gemm reads b. The order of its bytes belongs to this processor's
// kernel: never stored, never sent.
struct PackedMatrix {
  void* data = nullptr;  // 64-byte aligned, PackedMatrixBytes; null: absent
  DType dtype = DType::kF32;
  std::int64_t k = 0, n = 0;
};

// Memory that op(b) [k, n] of f32, bf16 or f64 needs when packed: n and k are padded. None for f16, which only CUDA multiplies.
std::int64_t PackedMatrixBytes(DType dtype, std::int64_t k, std::int64_t n);
// The same on the device: none on CUDA.
inline std::int64_t PackedMatrixBytes(DeviceKind device, DType dtype, std::int64_t k, std::int64_t n) {
  return device == DeviceKind::kCuda ? 0 : PackedMatrixBytes(dtype, k, n);
}

struct PackMatrixArgs {
  ConstMatrix b;  // [k, n], or [n, k] when transposed
  bool transpose_b = false;
  PackedMatrix to;  // of b's type and size
};

namespace cpu {
void PackMatrix(Stream& stream, const PackMatrixArgs& args);
}  // namespace cpu

inline void PackMatrix(Stream& stream, const PackMatrixArgs& args) {
  Dispatch(
      stream, [&] { cpu::PackMatrix(stream, args); }, [] {});
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_GEMM_PACKED_MATRIX_H_
