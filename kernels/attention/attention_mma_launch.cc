#include "kernels/attention/attention_mma_launch.h"

#include "kernels/attention/attention_cuda_launch.h"

namespace lycia::cuda {

const char* RejectMma(const AttentionProblem& p) {
  if (p.dtype != DType::kBF16 && p.dtype != DType::kF16) return "the kernel is for bf16 and f16";
  if (p.head_dim <= 0 || p.head_dim > kMma128.head_dim) return "the kernel is for heads of at most 128 features";
  if (p.head_dim % 8 != 0) return "the kernel copies 8 features at once, so heads must be multiples of that";
  if (!(p.scale > 0)) return "the kernel keeps the largest unscaled score, so the scale must be positive";
  return nullptr;
}

const char* RejectMmaView(const ConstHeadsView& view) {
  return RejectHopperView(view) == nullptr ? nullptr : "the kernel copies 16 bytes at once, so rows must begin at multiples of that";
}

MmaTiling ChooseMmaTiling(const AttentionProblem& p) { return p.head_dim <= kMma64.head_dim ? kMma64 : kMma128; }
MmaTiling ChooseMmaKeysTiling(const AttentionProblem& p) { return p.head_dim <= kMmaKeys64.head_dim ? kMmaKeys64 : kMmaKeys128; }

std::int64_t MmaBackwardScratchBytes(const AttentionProblem& p) { return p.samples * p.heads * p.queries * 4; }

}  // namespace lycia::cuda
