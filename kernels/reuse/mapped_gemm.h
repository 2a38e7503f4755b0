// Products whose rows or depth are a partition's clusters: as many as the map says when the product runs.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_GEMM_H_
#define LYCIA_KERNELS_REUSE_MAPPED_GEMM_H_

#include "kernels/dispatch.h"
#include "kernels/gemm/gemm.h"
#include "kernels/reuse/index_map.h"

namespace lycia {

// With U = *map.size, c = op(a) op(b) and its epilogue as in gemm.h, where
//   kRows:  c, residual, pre_activation, gelu_input and op(a) have U rows. Rows of memory beyond them, M in all, are left alone.
//           forward: y = c W + b;  gradient of the input: dc = s Wᵀ (b transposed).
//   kDepth: the depth is U: a is stored [U, m] (transpose_a), b [U, n]; no epilogue but accumulate. dW += cᵀ s.
// Rows and columns of memory are as GemmArgs has them, but for U, which no host knows: what has U rows may be said to have up to M.
// On the CPU row j of c has the bits that Gemm would give it among M rows (f32, bf16; f64 is the BLAS's, whose bits depend on the number of
// rows); on CUDA, where Gemm is a library's and this is not, the same bits whatever U is.
enum class MappedOver : std::uint8_t { kRows, kDepth };
struct MappedGemmArgs {
  IndexMap map;  // a partition of M rows
  MappedOver over = MappedOver::kRows;
  // a has M rows, of which row representatives[j] stands for row j: no copy of them is made. kRows: a is not transposed.
  bool gather_a = false;
  GemmArgs gemm;
  // kRows: [M, n] of c's type, row m = row ids[m] of c, bits copied; c is scratch then, and whether it is written is left open. Absent when
  // data is null.
  Matrix scattered;
};

namespace cpu {
void MappedGemm(Stream& stream, const MappedGemmArgs& args);
}  // namespace cpu
// b is always read and packed_b is not. Tensor cores where mapped_gemm_hopper.h takes the product, else plain kernels.
namespace cuda {
void MappedGemm(Stream& stream, const MappedGemmArgs& args);
}  // namespace cuda

inline void MappedGemm(Stream& stream, const MappedGemmArgs& args) {
  Dispatch(
      stream, [&] { cpu::MappedGemm(stream, args); }, [&] { cuda::MappedGemm(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_MAPPED_GEMM_H_
