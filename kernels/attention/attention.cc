#include "kernels/attention/attention.h"

#include <algorithm>

#include "kernels/attention/attention_backward_cuda_launch.h"
#include "kernels/attention/attention_mma_launch.h"
#include "kernels/attention/attention_scratch.h"

namespace lycia {
namespace {

// On CUDA: the number of the next tile.
constexpr std::int64_t kForwardCounterBytes = 64;

template <typename View, typename T>
PackedQkv<View> Split(const T& qkv, std::int64_t heads, std::int64_t kv_heads) {
  const std::int64_t row = qkv.shape.dim(-1), width = heads + 2 * kv_heads;
  LYCIA_CHECK_EQ(qkv.shape.rank(), 3);
  LYCIA_CHECK(width > 0 && row % width == 0) << "rows of " << row << " do not hold " << width << " heads ";
  const std::int64_t head_dim = row / width;
  const auto at = [&](std::int64_t head) {
    auto* data = static_cast<decltype(View::data)>(qkv.data);
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(View::data)>>, const char, char>;
    data = data == nullptr ? data : static_cast<Byte*>(data) + head * head_dim * SizeOf(qkv.dtype);
    return View{data, qkv.shape[1] * row, row, head_dim};
  };
  return {at(0), at(heads), at(heads + kv_heads)};
}

template <typename View, typename T>
View Heads(const T& tensor, std::int64_t heads) {
  const std::int64_t row = tensor.shape.dim(-1);
  LYCIA_CHECK_EQ(tensor.shape.rank(), 3);
  LYCIA_CHECK(heads > 0 && row % heads == 0) << "rows of " << row << " do not hold " << heads << " heads ";
  return {tensor.data, tensor.shape[1] * row, row, row / heads};
}

}  // namespace

std::int64_t AttentionForwardScratchBytes(const AttentionProblem& p) {
  if (p.dtype == DType::kBF16) {
    const cpu::AttentionBytes on_cpu = cpu::Bf16ForwardBytes(p);
    return std::max(on_cpu.head + on_cpu.tile, kForwardCounterBytes);
  }
  return DispatchFloat(ArithmeticDType(p.dtype), [&]<typename T>() { return cpu::ForwardScratch<T>::Make(nullptr, p.head_dim).bytes; });
}

std::int64_t AttentionBackwardScratchBytes(const AttentionProblem& p) {
  if (p.dtype == DType::kBF16) {
    const cpu::AttentionBytes on_cpu = cpu::Bf16BackwardBytes(p);
    return std::max({on_cpu.head + on_cpu.tile, cuda::PlanBackwardScratch(p).bytes, cuda::MmaBackwardScratchBytes(p)});
  }
  if (p.dtype == DType::kF16) return cuda::MmaBackwardScratchBytes(p);
  return DispatchFloat(p.dtype, [&]<typename T>() { return cpu::BackwardScratch<T>::Make(nullptr, p.head_dim).bytes; });
}

double AttentionForwardFlops(const AttentionProblem& p) {
  const double pairs = static_cast<double>(p.queries) * static_cast<double>(p.keys) * (p.mask == MaskKind::kCausal ? 0.5 : 1.0);
  return 4.0 * static_cast<double>(p.samples * p.heads * p.head_dim) * pairs;
}

PackedQkv<ConstHeadsView> SplitQkv(const ConstTensor& qkv, std::int64_t heads, std::int64_t kv_heads) {
  return Split<ConstHeadsView>(qkv, heads, kv_heads);
}
PackedQkv<HeadsView> SplitQkv(const Tensor& qkv, std::int64_t heads, std::int64_t kv_heads) {
  return Split<HeadsView>(qkv, heads, kv_heads);
}
ConstHeadsView AsHeads(const ConstTensor& tensor, std::int64_t heads) { return Heads<ConstHeadsView>(tensor, heads); }
HeadsView AsHeads(const Tensor& tensor, std::int64_t heads) { return Heads<HeadsView>(tensor, heads); }

}  // namespace lycia
