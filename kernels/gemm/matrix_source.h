// A matrix as an operand of the driver.
#ifndef LYCIA_KERNELS_GEMM_MATRIX_SOURCE_H_
#define LYCIA_KERNELS_GEMM_MATRIX_SOURCE_H_

#include <algorithm>

#include "kernels/gemm/driver.h"
#include "runtime/core/tensor.h"

namespace lycia::cpu {

// Where lanes and depth of an operand stand in memory.
struct MatrixSource {
  const char* data;
  std::int64_t ld, k;
  bool k_contiguous, bf16, is_a;

  void Pack(const MicroKernel& kernel, const PanelPart& part) const { (is_a ? kernel.pack_a : kernel.pack_b)(Args(kernel, part)); }

  void Fetch(const MicroKernel& kernel, const PanelPart& part, std::int64_t share, std::int64_t shares) const {
    const PackArgs args = Args(kernel, part);
    const std::int64_t lines = k_contiguous ? args.lanes : args.depth, bytes = bf16 ? 2 : 4;
    const std::int64_t line_bytes = (k_contiguous ? args.depth : args.lanes) * bytes;
    for (std::int64_t i = lines * share / shares; i < lines * (share + 1) / shares; ++i) {
      const char* at = static_cast<const char*>(args.from) + i * ld * bytes;
      for (std::int64_t byte = 0; byte < line_bytes; byte += 64) __builtin_prefetch(at + byte, 0, 2);
      if (line_bytes > 0) __builtin_prefetch(at + line_bytes - 1, 0, 2);
    }
  }

 private:
  PackArgs Args(const MicroKernel& kernel, const PanelPart& part) const {
    const std::int64_t elements = kernel.pairs ? 2 : 1, first = part.word * elements;
    const std::int64_t at = k_contiguous ? part.lane * ld + first : first * ld + part.lane;
    return {.from = data + at * (bf16 ? 2 : 4),
            .ld = ld,
            .k_contiguous = k_contiguous,
            .bf16 = bf16,
            .lanes = part.lanes,
            .depth = std::max<std::int64_t>(std::min(k - first, part.words * elements), 0),
            .words = part.words,
            .to = part.to};
  }
};
// transposed: stored [k, m].
inline MatrixSource MatrixAsA(const ConstMatrix& a, bool transposed) {
  return {static_cast<const char*>(a.data), a.ld, transposed ? a.rows : a.cols, !transposed, a.dtype == DType::kBF16, true};
}
// transposed: stored [n, k].
inline MatrixSource MatrixAsB(const ConstMatrix& b, bool transposed) {
  return {static_cast<const char*>(b.data), b.ld, transposed ? b.cols : b.rows, transposed, b.dtype == DType::kBF16, false};
}

inline EpilogueOperand AsOperand(const ConstMatrix& matrix) {
  return {const_cast<void*>(matrix.data), matrix.ld, matrix.dtype == DType::kBF16};
}
// One row.
inline EpilogueOperand AsOperand(const ConstTensor& row) { return {const_cast<void*>(row.data), 0, row.dtype == DType::kBF16}; }

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_MATRIX_SOURCE_H_
