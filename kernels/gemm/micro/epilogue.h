// The epilogue of any vector instruction set, as a template on its operations: see EpilogueArgs for what is done in which order. Rounding
// to bf16 is to nearest, ties to even, as in runtime/core/bfloat16.h.
#ifndef LYCIA_KERNELS_GEMM_MICRO_EPILOGUE_H_
#define LYCIA_KERNELS_GEMM_MICRO_EPILOGUE_H_

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vector_logistic.h"
#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {

template <typename Ops>
LYCIA_INLINE inline typename Ops::Float LoadOperand(const EpilogueOperand& operand, std::int64_t row, std::int64_t col, int count) {
  const std::int64_t at = row * operand.ld + col;
  if (operand.bf16) return Ops::LoadBf16(static_cast<const std::uint16_t*>(operand.data) + at, count);
  return Ops::LoadPart(static_cast<const float*>(operand.data) + at, count);
}
template <typename Ops>
LYCIA_INLINE inline void StoreOperand(const EpilogueOperand& operand, std::int64_t row, std::int64_t col, int count,
                                      const typename Ops::Float& v) {
  const std::int64_t at = row * operand.ld + col;
  if (operand.bf16) return Ops::StoreBf16(static_cast<std::uint16_t*>(operand.data) + at, v, count);
  Ops::StorePart(static_cast<float*>(operand.data) + at, v, count);
}

// Sums that are only rounded to bf16, in whole vectors: what a short product does most.
template <typename Ops>
void RoundToC(const EpilogueArgs& e) {
  constexpr int L = Ops::kLanes;
  for (std::int64_t i = 0; i < e.rows; ++i) {
    auto* to = static_cast<std::uint16_t*>(e.c.data) + i * e.c.ld;
    const float* from = e.sum + i * e.sum_ld;
    for (std::int64_t j = 0; j < e.cols; j += L) Ops::StoreBf16(to + j, Ops::Load(from + j), L);
  }
}

template <typename Ops>
void Epilogue(const EpilogueArgs& e) {
  using V = typename Ops::Float;
  constexpr int L = Ops::kLanes;
  const bool more = e.add_c || e.gelu || e.relu || e.scale.data != nullptr || e.bias.data != nullptr || e.pre.data != nullptr ||
                    e.gelu_input.data != nullptr || e.residual.data != nullptr;
  if (!more && e.c.bf16 && e.cols % L == 0) return RoundToC<Ops>(e);
  for (std::int64_t i = 0; i < e.rows; ++i) {
    for (std::int64_t j = 0; j < e.cols; j += L) {
      const int count = e.cols - j < L ? static_cast<int>(e.cols - j) : L;
      V s = Ops::LoadPart(e.sum + i * e.sum_ld + j, count);
      if (e.add_c) s = Ops::Add(s, LoadOperand<Ops>(e.c, i, j, count));
      if (e.scale.data != nullptr) s = s * LoadOperand<Ops>(e.scale, 0, j, count);
      if (e.bias.data != nullptr) s = Ops::Add(s, LoadOperand<Ops>(e.bias, 0, j, count));
      if (e.pre.data != nullptr) StoreOperand<Ops>(e.pre, i, j, count, s);
      if (e.gelu) {
        if (e.c.bf16) s = Ops::RoundToBf16(s);
        s = GeluOf<V>(s);
      }
      if (e.gelu_input.data != nullptr) s = s * GeluSlopeOf<V>(LoadOperand<Ops>(e.gelu_input, i, j, count));
      if (e.residual.data != nullptr) s = Ops::Add(s, LoadOperand<Ops>(e.residual, i, j, count));
      if (e.relu) s = s < 0 ? V{} : s;
      StoreOperand<Ops>(e.c, i, j, count, s);
    }
  }
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_MICRO_EPILOGUE_H_
